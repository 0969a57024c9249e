package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"
)

type element struct{ name, root string }

type replica struct {
	SE  string `json:"se"`
	URL string `json:"url"`
}

type fileReplicas struct {
	LFN       string    `json:"lfn"`
	SizeBytes int64     `json:"size_bytes"`
	Adler32   *string   `json:"adler32"`
	Sha256    *string   `json:"sha256"`
	Replicas  []replica `json:"replicas"`
}

// replicas is POST /api/files/replicas: where the bytes of files are, in the order asked.
func (s *service) replicas(ctx context.Context, who *caller, body []byte) (any, error) {
	var asked struct {
		LFNs []string `json:"lfns"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, refuse(422, "bad-body", "the body is refused: %s", err)
	}
	directories, names := make([]string, len(asked.LFNs)), make([]string, len(asked.LFNs))
	for n, lfn := range asked.LFNs {
		if err := lfnFault(lfn, who.vo); err != nil {
			return nil, err
		}
		directories[n], names[n] = path.Dir(lfn), path.Base(lfn)
	}
	roots, err := s.storageRoots(ctx, who)
	if err != nil {
		return nil, err
	}
	statement := s.catalog["locate_files"]
	values, err := statement.bind(map[string]any{"vo_id": who.voID, "directories": directories, "names": names})
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, statement.text, values...)
	if err != nil {
		return nil, err
	}
	answer, err := collect(rows, roots, asked.LFNs)
	if err != nil {
		return nil, err
	}
	for n, lfn := range asked.LFNs {
		if answer[n] == nil {
			return nil, refuse(404, "unknown-lfn", "not a file in the catalog: %s", lfn)
		}
	}
	return answer, nil
}

// collect takes it that a file's first replica alone may lie at its directory's location, as in the benchmark.
func collect(rows pgx.Rows, roots map[int32]element, lfns []string) ([]*fileReplicas, error) {
	answer := make([]*fileReplicas, len(lfns))
	var n, accessID, gateID int32
	var fileID, size, directoryID int64
	var adler32 *int32
	var sha256 []byte
	var seIDs []int32
	var pfns []*string
	var statuses []string
	var place *string
	columns := []any{
		&n, &fileID, &size, &adler32, &sha256, &seIDs, &pfns, &statuses, &accessID, &gateID, &directoryID, &place,
	}
	_, err := pgx.ForEachRow(rows, columns, func() error {
		file := &fileReplicas{LFN: lfns[n-1], SizeBytes: size, Replicas: []replica{}}
		if adler32 != nil {
			text := fmt.Sprintf("%08x", uint32(*adler32))
			file.Adler32 = &text
		}
		if sha256 != nil {
			text := hex.EncodeToString(sha256)
			file.Sha256 = &text
		}
		for k, seID := range seIDs {
			if statuses != nil && statuses[k] != "available" {
				continue
			}
			if se, ours := roots[seID]; ours {
				var pfn string
				if pfns != nil && pfns[k] != nil {
					pfn = *pfns[k]
				} else if place != nil {
					pfn = path.Join(*place, path.Base(file.LFN))
				}
				// As Spinor's plugin for directories writes them: two slashes between root and path.
				file.Replicas = append(file.Replicas, replica{se.name, "file://" + se.root + "//" + escaped(pfn)})
			}
		}
		answer[n-1] = file
		return nil
	})
	return answer, err
}

// storageRoots are the storage elements of the VO by number.
func (s *service) storageRoots(ctx context.Context, who *caller) (map[int32]element, error) {
	statement := s.resources["list_storage_elements"]
	values, err := statement.bind(map[string]any{"vo_id": who.voID})
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, statement.text, values...)
	if err != nil {
		return nil, err
	}
	roots := map[int32]element{}
	var id int32
	var name, plugin, root string
	var site *string
	var readOnly bool
	var options map[string]any
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &site, &plugin, &root, &readOnly, &options}, func() error {
		roots[id] = element{name, escaped(path.Clean(root))}
		return nil
	})
	return roots, err
}

func escaped(text string) string { return (&url.URL{Path: text}).EscapedPath() }

func lfnFault(lfn, vo string) error {
	if len(lfn) > 4096 || !strings.HasPrefix(lfn, "/"+vo+"/") {
		return refuse(422, "bad-lfn", "%q is outside your VO %s", lfn, vo)
	}
	for _, part := range strings.Split(lfn[1:], "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.ContainsRune(part, 0) {
			return refuse(422, "bad-lfn", "%q is not a path", lfn)
		}
	}
	return nil
}
