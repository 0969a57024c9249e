-- Statements around the rows of a dataset, which stand for {rows}: lfn, file_id, size_bytes, adler32.

-- name: rows
-- every VO: `directories` filters. The files that a query finds.
SELECT d.path || '/' || f.name AS lfn, f.file_id, f.size_bytes, f.adler32
FROM ({directories}) AS d CROSS JOIN LATERAL ({files} OFFSET 0) AS f;

-- name: summary
-- every VO: the rows have the filter. Files, bytes, and a digest that does not depend on the order: the first 16 bytes of
-- the SHA-256 of each file's LFN, size and checksum, joined by exclusive or.
SELECT count(*), COALESCE(sum(r.size_bytes), 0)::numeric,
       int8send(COALESCE(bit_xor(('x' || encode(substr(h.hash, 1, 8), 'hex'))::bit(64)::bigint), 0))
       || int8send(COALESCE(bit_xor(('x' || encode(substr(h.hash, 9, 8), 'hex'))::bit(64)::bigint), 0))
FROM ({rows}) AS r
CROSS JOIN LATERAL (
    SELECT sha256(convert_to(
        r.lfn || E'\n' || r.size_bytes || E'\n' || COALESCE(lpad(to_hex(r.adler32), 8, '0'), ''), 'UTF8')) AS hash
    OFFSET 0
) AS h;

-- name: keep
-- every VO: the rows have the filter. Keep the rows as those of a version.
INSERT INTO catalog.dataset_file (dataset_id, version, file_id, vo_id, size_bytes, adler32, lfn)
SELECT %(dataset_id)s::bigint, %(version)s::integer, r.file_id, %(vo_id)s::integer, r.size_bytes, r.adler32, r.lfn
FROM ({rows}) AS r;

-- name: lines
-- every VO: the rows have the filter. The rows as JSON.
SELECT '{{"lfn":' || to_json(r.lfn)::text || ',"size_bytes":' || r.size_bytes || ',"adler32":'
    || COALESCE('"' || lpad(to_hex(r.adler32), 8, '0') || '"', 'null') || ',"file_id":' || r.file_id || '}}'
FROM ({rows}) AS r;
