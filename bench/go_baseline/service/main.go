// The peer of the benchmark http-baseline: two of Spinor's calls in Go, with Spinor's own SQL, keys and certificate.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type service struct {
	pool      *pgxpool.Pool
	writes    *pgxpool.Pool
	verifier  *verifier
	resources queries
	catalog   queries
	jobs      queries
}

// A problem is an answer that tells what is wrong (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p *problem) Error() string { return p.Detail }

func refuse(status int, code, format string, facts ...any) *problem {
	return &problem{status, code, fmt.Sprintf(format, facts...)}
}

// A verb answers one call. As in Spinor, reads and single statements are no transactions of several round trips.
type verb func(context.Context, *caller, []byte) (any, error)

// A querier is the pool, or a transaction.
type querier interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}

// serve does what every call needs: authorise, read the body, encode.
func (s *service) serve(scope string, status int, verb verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := s.call(r, scope, verb)
		if err != nil {
			p, known := err.(*problem)
			if !known {
				log.Print(err)
				p = refuse(500, "internal", "something went wrong")
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(p.Status)
			json.NewEncoder(w).Encode(p)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.WriteHeader(status)
		w.Write(answer)
	}
}

func (s *service) call(r *http.Request, scope string, verb verb) ([]byte, error) {
	who, err := s.verifier.callerOf(r)
	if err != nil {
		return nil, err
	}
	if !who.scopes[scope] {
		return nil, refuse(403, "denied", "this needs the scope %s", scope)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refuse(422, "bad-body", "the body is incomplete")
	}
	answer, err := verb(r.Context(), who, body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port")
	certificate := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "key file")
	database := flag.String("database", "", "PostgreSQL URL")
	connections := flag.Int("connections", 10, "connections at most")
	keys := flag.String("jwks", "", "file with the public keys (RFC 7517)")
	issuer := flag.String("issuer", "", "issuer of the tokens")
	systems := flag.String("systems", "", "directory that holds <system>/queries.sql")
	flag.Parse()

	config, err := pgxpool.ParseConfig(*database)
	check(err)
	config.MaxConns = int32(*connections)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	check(err)
	// As Spinor's intake does: one plan of the large statement for all its values.
	config = config.Copy()
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	writes, err := pgxpool.NewWithConfig(context.Background(), config)
	check(err)
	verifier, err := newVerifier(*keys, *issuer, pool, load(*systems, "identity"))
	check(err)
	s := &service{pool, writes, verifier, load(*systems, "resources"), load(*systems, "catalog"), load(*systems, "jobs/submission")}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/health", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{}") })
	mux.HandleFunc("POST /api/files/replicas", s.serve("files:read", 200, s.replicas))
	mux.HandleFunc("POST /api/jobs", s.serve("jobs:submit", 201, s.submitJobs))
	server := &http.Server{
		Addr:         *listen,
		Handler:      mux,
		IdleTimeout:  75 * time.Second,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only, as Spinor's server.
	}
	check(server.ListenAndServeTLS(*certificate, *key))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
