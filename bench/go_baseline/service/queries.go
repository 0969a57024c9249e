package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A query is one named statement of Spinor's, with PostgreSQL's numbered parameters.
type query struct {
	text  string
	names []string
}

type queries map[string]*query

var (
	header    = regexp.MustCompile(`(?m)^-- name: *(\w+) *$`)
	parameter = regexp.MustCompile(`%\((\w+)\)s|%%`)
)

// load reads <directory>/<system>/queries.sql, so that both services always run the same statements.
func load(directory, system string) queries {
	text, err := os.ReadFile(filepath.Join(directory, system, "queries.sql"))
	check(err)
	found := queries{}
	marks := header.FindAllSubmatchIndex(text, -1)
	for n, mark := range marks {
		end := len(text)
		if n+1 < len(marks) {
			end = marks[n+1][0]
		}
		found[string(text[mark[2]:mark[3]])] = translate(string(text[mark[1]:end]))
	}
	return found
}

func translate(text string) *query {
	q := &query{}
	numbers := map[string]int{}
	q.text = parameter.ReplaceAllStringFunc(strings.TrimRight(strings.TrimSpace(text), ";"), func(mark string) string {
		if mark == "%%" {
			return "%"
		}
		name := mark[2 : len(mark)-2]
		if numbers[name] == 0 {
			q.names = append(q.names, name)
			numbers[name] = len(q.names)
		}
		return fmt.Sprintf("$%d", numbers[name])
	})
	return q
}

// bind puts the values in the order of the statement. A parameter without a value means that the statement has changed
// and this service no longer does what Spinor does: that is a fault, never a NULL.
func (q *query) bind(values map[string]any) ([]any, error) {
	bound := make([]any, len(q.names))
	for n, name := range q.names {
		value, known := values[name]
		if !known {
			return nil, fmt.Errorf("the statement asks for %s, which this service does not know", name)
		}
		bound[n] = value
	}
	return bound, nil
}
