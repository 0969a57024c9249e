-- name: dump_lines
-- every VO: the statement put in for dump has the filter. `||` joins texts several times as fast as concat() and format().
SELECT '{{"lfn":' || to_json(r.lfn)::text || ',"pfn":' || to_json(r.pfn)::text || ',"size_bytes":' || r.size_bytes
    || ',"adler32":' || COALESCE('"' || r.adler32 || '"', 'null') || ',"status":"' || r.status || '","created_at":'
    || to_json(r.created_at)::text || ',"file_id":' || r.file_id || '}}'
FROM ({dump}) AS r;
