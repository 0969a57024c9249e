package main

import (
	"context"
	"encoding/json"
	"net/url"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"
)

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
	found, err := collect(rows, roots, len(asked.LFNs))
	if err != nil {
		return nil, err
	}
	answer := make([]*fileReplicas, len(asked.LFNs))
	for n, lfn := range asked.LFNs {
		if answer[n] = found[lfn]; answer[n] == nil {
			return nil, refuse(404, "unknown-lfn", "not a file in the catalog: %s", lfn)
		}
	}
	return answer, nil
}

func collect(rows pgx.Rows, roots map[string]string, size int) (map[string]*fileReplicas, error) {
	found := make(map[string]*fileReplicas, size)
	var n, fileID, size64 int64
	var lfn string
	var adler32, sha256, se, pfn, status *string
	var seID *int32
	_, err := pgx.ForEachRow(rows, []any{&n, &lfn, &fileID, &size64, &adler32, &sha256, &seID, &se, &pfn, &status}, func() error {
		file := found[lfn]
		if file == nil {
			file = &fileReplicas{LFN: lfn, SizeBytes: size64, Adler32: adler32, Sha256: sha256, Replicas: []replica{}}
			found[lfn] = file
		}
		if se != nil && pfn != nil && status != nil && *status == "available" {
			if root, ours := roots[*se]; ours {
				// As Spinor's plugin for directories writes them: two slashes between root and path.
				file.Replicas = append(file.Replicas, replica{*se, "file://" + root + "//" + escaped(*pfn)})
			}
		}
		return nil
	})
	return found, err
}

// storageRoots are the storage elements of the VO by name.
func (s *service) storageRoots(ctx context.Context, who *caller) (map[string]string, error) {
	statement := s.resources["list_storage_elements"]
	values, err := statement.bind(map[string]any{"vo_id": who.voID})
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, statement.text, values...)
	if err != nil {
		return nil, err
	}
	roots := map[string]string{}
	var id int32
	var name, plugin, root string
	var site *string
	var readOnly bool
	var options map[string]any
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &site, &plugin, &root, &readOnly, &options}, func() error {
		roots[name] = escaped(path.Clean(root))
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
