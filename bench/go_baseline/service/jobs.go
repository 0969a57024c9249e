package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"path"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A spec is a job description without the parts that need other systems: sandboxes, data and parameters.
type spec struct {
	Executable    string            `json:"executable"`
	Arguments     []string          `json:"arguments,omitempty"`
	Environment   map[string]string `json:"environment,omitempty"`
	Name          string            `json:"name"`
	OutputSandbox []string          `json:"output_sandbox,omitempty"`
	Cores         int               `json:"cores,omitempty"`
	MemoryBytes   int64             `json:"memory_bytes,omitempty"`
	DiskBytes     int64             `json:"disk_bytes,omitempty"`
	WallS         int               `json:"wall_s,omitempty"`
	Sites         []string          `json:"sites,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	Priority      *int              `json:"priority,omitempty"`
}

// The order of the fields is Spinor's, since the digest of this JSON is the key of a task queue.
type requirements struct {
	VoID        int32    `json:"vo_id"`
	OwnerID     int32    `json:"owner_id"`
	GroupID     int32    `json:"group_id"`
	Cores       int      `json:"cores,omitempty"`
	MaxCores    int      `json:"max_cores,omitempty"`
	MemoryBytes int64    `json:"memory_bytes"`
	DiskBytes   int64    `json:"disk_bytes"`
	WallS       int      `json:"wall_s"`
	Sites       []string `json:"sites,omitempty"`
	Tags        []string `json:"tags,omitempty"`
}

type submittedArray struct {
	ArrayID int64      `json:"array_id"`
	Name    string     `json:"name"`
	Size    int        `json:"size"`
	JobIDs  [][2]int64 `json:"job_ids"`
}

type submitted struct {
	Arrays   []*submittedArray `json:"arrays"`
	Warnings []string          `json:"warnings"`
}

var (
	placeholder = regexp.MustCompile(`\{\{\w+\}\}|\{[A-Za-z_]\w*\}`)
	control     = regexp.MustCompile(`[\x00-\x1f\x7f]`)
	word        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// submitJobs is POST /api/jobs: all jobs, or none.
func (s *service) submitJobs(ctx context.Context, who *caller, body []byte) (any, error) {
	var asked struct {
		Specs []*spec `json:"specs"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil || len(asked.Specs) == 0 {
		return nil, refuse(422, "bad-body", "the body is refused: %v", err)
	}
	if len(asked.Specs) == 1 {
		return s.store(ctx, s.writes, who, asked.Specs)
	}
	var answer any
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		answer, err = s.store(ctx, tx, who, asked.Specs)
		return err
	})
	return answer, err
}

func (s *service) store(ctx context.Context, tx querier, who *caller, specs []*spec) (any, error) {
	values, queues, err := rowsOf(who, specs)
	if err != nil {
		return nil, err
	}
	answer, err := s.insert(ctx, tx, values, specs)
	if err != nil || len(answer.Arrays) > 0 {
		return answer, err
	}
	statement := s.jobs["insert_task_queues"]
	bound, err := statement.bind(map[string]any{"vo_id": who.voID, "queues": queues, "digests": values["distinct_digests"]})
	if err != nil {
		return nil, err
	}
	if _, err = tx.Exec(ctx, statement.text, bound...); err != nil {
		return nil, err
	}
	return s.insert(ctx, tx, values, specs)
}

func (s *service) insert(ctx context.Context, tx querier, values map[string]any, specs []*spec) (*submitted, error) {
	statement := s.jobs["insert_arrays"]
	bound, err := statement.bind(values)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, statement.text, bound...)
	if err != nil {
		return nil, err
	}
	answer := &submitted{Warnings: []string{}}
	var arrayID, first, last, ordinal int64
	_, err = pgx.ForEachRow(rows, []any{&arrayID, &first, &last, &ordinal}, func() error {
		n := len(answer.Arrays)
		if n == 0 || answer.Arrays[n-1].ArrayID != arrayID {
			answer.Arrays = append(answer.Arrays, &submittedArray{ArrayID: arrayID, Name: specs[n].Name, Size: 1})
			n++
		}
		answer.Arrays[n-1].JobIDs = append(answer.Arrays[n-1].JobIDs, [2]int64{first, last})
		return nil
	})
	return answer, err
}

// A kind is what descriptions of one caller may have in common.
type kind struct {
	digest   [32]byte
	priority int
}

// rowsOf checks the descriptions and lays them out in columns, with what they have in common once; and the requirements
// by digest.
func rowsOf(who *caller, specs []*spec) (map[string]any, []string, error) {
	size := len(specs)
	names, texts, numbers := make([]string, size), make([]string, size), make([]int32, size)
	sizes, keys := make([]int32, size), make([]*string, size)
	kinds, inOrder := map[kind]int32{}, []kind{}
	distinct, queues := [][]byte{}, []string{}
	seen := map[[32]byte]bool{}
	for n, each := range specs {
		if err := normalise(each); err != nil {
			return nil, nil, err
		}
		text, err := json.Marshal(stored(*each))
		if err != nil {
			return nil, nil, err
		}
		wanted, err := json.Marshal(requirements{who.voID, who.userID, who.groupID, unusual(each.Cores), unusual(each.Cores), each.MemoryBytes,
			each.DiskBytes, each.WallS, sorted(each.Sites), sorted(each.Tags)})
		if err != nil {
			return nil, nil, err
		}
		own := kind{sha256.Sum256(wanted), *each.Priority}
		if kinds[own] == 0 {
			inOrder = append(inOrder, own)
			kinds[own] = int32(len(inOrder))
		}
		names[n], texts[n], sizes[n], numbers[n] = each.Name, string(text), 1, kinds[own]
		if !seen[own.digest] {
			seen[own.digest] = true
			distinct, queues = append(distinct, own.digest[:]), append(queues, string(wanted))
		}
	}
	values := columnsOf(who, inOrder)
	for name, column := range map[string]any{
		"together": true, "jobs": int64(size), "distinct_digests": distinct, "kinds": numbers, "names": names, "sizes": sizes,
		"specs": texts, "keys": keys, "block_ordinals": []int32{}, "blocks": []int32{}, "elements": []string{},
		"sandbox_ordinals": []int32{}, "sandbox_ids": []int64{},
	} {
		values[name] = column
	}
	return values, queues, nil
}

func columnsOf(who *caller, kinds []kind) map[string]any {
	size := len(kinds)
	vos, owners, groups := make([]int32, size), make([]int32, size), make([]int32, size)
	jobGroups, types, statuses, minors := make([]string, size), make([]string, size), make([]string, size), make([]string, size)
	deadlines, retries := make([]*time.Time, size), make([]string, size)
	digests, priorities := make([][]byte, size), make([]int16, size)
	for n, each := range kinds {
		vos[n], owners[n], groups[n] = who.voID, who.userID, who.groupID
		types[n], statuses[n], retries[n] = "user", "waiting", usualRetries
		digests[n], priorities[n] = kinds[n].digest[:], int16(each.priority)
	}
	return map[string]any{
		"vo_ids": vos, "owner_ids": owners, "group_ids": groups, "job_groups": jobGroups, "job_types": types,
		"digests": digests, "priorities": priorities, "statuses": statuses, "minor_statuses": minors,
		"deadlines": deadlines, "retries": retries,
	}
}

func normalise(each *spec) error {
	if strings.TrimSpace(each.Executable) == "" {
		return refuse(422, "bad-job-description", "executable: is empty")
	}
	if each.Name == "" {
		each.Name = path.Base(each.Executable)
	}
	for name := range each.Environment {
		if !word.MatchString(name) {
			return refuse(422, "bad-job-description", "environment: %q is not a name", name)
		}
	}
	for _, text := range append([]string{each.Executable, each.Name}, each.Arguments...) {
		if control.MatchString(text) || placeholder.MatchString(text) {
			return refuse(422, "bad-job-description", "%q is refused", text)
		}
	}
	return defaults(each)
}

const usualBytes, usualWallS, usualPriority, usualRetries = 1_000_000_000, 1800, 5, "{3,2,0,1,0}"

func defaults(each *spec) error {
	priority := usualPriority
	each.Cores = max(each.Cores, 1)
	if each.MemoryBytes == 0 {
		each.MemoryBytes = usualBytes
	}
	if each.DiskBytes == 0 {
		each.DiskBytes = usualBytes
	}
	if each.WallS == 0 {
		each.WallS = usualWallS
	}
	if each.Priority == nil {
		each.Priority = &priority
	}
	if *each.Priority < 0 || *each.Priority > 9 || each.Cores > 1024 {
		return refuse(422, "bad-job-description", "priority or cores: out of range")
	}
	return nil
}

// unusual leaves out the usual number of cores.
func unusual(cores int) int {
	if cores == 1 {
		return 0
	}
	return cores
}

// stored leaves out what is usual, as Spinor does.
func stored(each spec) spec {
	if each.Cores == 1 {
		each.Cores = 0
	}
	if each.MemoryBytes == usualBytes {
		each.MemoryBytes = 0
	}
	if each.DiskBytes == usualBytes {
		each.DiskBytes = 0
	}
	if each.WallS == usualWallS {
		each.WallS = 0
	}
	if *each.Priority == usualPriority {
		each.Priority = nil
	}
	return each
}

func sorted(words []string) []string {
	found := append([]string{}, words...)
	sort.Strings(found)
	return found
}
