package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"

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
	answer, err := s.collect(ctx, rows, roots, asked.LFNs)
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

// where names a place of a directory's files, and is where the service remembers it, as Spinor does.
type where struct {
	directoryID int64
	seID        int32
}

var (
	places     = map[where]string{}
	placesLock sync.Mutex
)

type located struct {
	n, accessID, gateID int32
	fileID, size        int64
	directoryID         int64
	adler32             *int32
	sha256              []byte
	seIDs               []int32
	pfns                []*string
	statuses            []string
}

func (s *service) collect(
	ctx context.Context, rows pgx.Rows, roots map[int32]element, lfns []string,
) ([]*fileReplicas, error) {
	found := make([]located, 0, len(lfns))
	var f located
	columns := []any{
		&f.n, &f.fileID, &f.size, &f.adler32, &f.sha256, &f.seIDs, &f.pfns, &f.statuses, &f.accessID, &f.gateID,
		&f.directoryID,
	}
	if _, err := pgx.ForEachRow(rows, columns, func() error {
		found = append(found, f)
		f = located{}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.learnPlaces(ctx, found); err != nil {
		return nil, err
	}
	answer := make([]*fileReplicas, len(lfns))
	placesLock.Lock()
	defer placesLock.Unlock()
	for _, one := range found {
		file := &fileReplicas{LFN: lfns[one.n-1], SizeBytes: one.size, Replicas: []replica{}}
		if one.adler32 != nil {
			text := fmt.Sprintf("%08x", uint32(*one.adler32))
			file.Adler32 = &text
		}
		if one.sha256 != nil {
			text := hex.EncodeToString(one.sha256)
			file.Sha256 = &text
		}
		for k, seID := range one.seIDs {
			se, ours := roots[seID]
			if !ours || one.statuses != nil && one.statuses[k] != "available" {
				continue
			}
			pfn := path.Join(places[where{one.directoryID, seID}], path.Base(file.LFN))
			if one.pfns != nil && one.pfns[k] != nil {
				pfn = *one.pfns[k]
			}
			// As Spinor's plugin for directories writes them: two slashes between root and path.
			file.Replicas = append(file.Replicas, replica{se.name, "file://" + se.root + "//" + escaped(pfn)})
		}
		answer[one.n-1] = file
	}
	return answer, nil
}

func (s *service) learnPlaces(ctx context.Context, found []located) error {
	missing := []int64{}
	placesLock.Lock()
	for _, one := range found {
		for _, seID := range one.seIDs {
			if _, known := places[where{one.directoryID, seID}]; !known {
				missing = append(missing, one.directoryID)
			}
		}
	}
	placesLock.Unlock()
	if len(missing) == 0 {
		return nil
	}
	statement := s.catalog["find_locations"]
	values, err := statement.bind(map[string]any{"directory_ids": missing})
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, statement.text, values...)
	if err != nil {
		return err
	}
	var at where
	var place string
	placesLock.Lock()
	defer placesLock.Unlock()
	_, err = pgx.ForEachRow(rows, []any{&at.directoryID, &at.seID, &place}, func() error {
		places[at] = place
		return nil
	})
	return err
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
	var held map[string]struct{ Status string }
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &site, &plugin, &root, &readOnly, &options, &held}, func() error {
		if reading, isHeld := held["read"]; !isHeld || reading.Status == "degraded" {
			roots[id] = element{name, escaped(path.Clean(root))}
		}
		held = nil
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
