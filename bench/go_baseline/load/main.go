// The load generator of the benchmark http-baseline: a few requests, again and again, on kept-alive TLS connections.
// Ready-made bytes go out and answers are only counted, so that it takes little of the machine that it measures.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

type result struct {
	Requests   int     `json:"requests"`
	Errors     int     `json:"errors"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	P50ms      float64 `json:"p50_ms"`
	P99ms      float64 `json:"p99_ms"`
	FirstError string  `json:"first_error,omitempty"`
}

type worker struct {
	latencies  []time.Duration
	errors     int
	firstError string
}

func main() {
	address := flag.String("url", "", "where to POST")
	ca := flag.String("ca", "", "file of the certificate authority")
	token := flag.String("token", "", "file with the access token")
	concurrency := flag.Int("concurrency", 1, "connections, each with one request at a time")
	duration := flag.Duration("duration", 3*time.Second, "how long")
	flag.Parse() // The other words are files with bodies, sent in turns.

	target, err := url.Parse(*address)
	check(err)
	requests := make([][]byte, flag.NArg())
	for n, body := range flag.Args() {
		requests[n] = readyMade(target, read(*token), read(body))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(*ca))
	config := &tls.Config{RootCAs: pool, ServerName: target.Hostname()}

	workers := make([]worker, *concurrency)
	var all sync.WaitGroup
	started := time.Now()
	end := started.Add(*duration)
	for n := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			workers[n].run(target.Host, config, requests, n, end)
		}()
	}
	all.Wait()
	check(json.NewEncoder(os.Stdout).Encode(summary(workers, time.Since(started))))
}

func readyMade(target *url.URL, token, body []byte) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		target.RequestURI(), target.Host, strings.TrimSpace(string(token)), len(body))
	return append([]byte(head), body...)
}

func (w *worker) run(host string, config *tls.Config, requests [][]byte, next int, end time.Time) {
	connection, err := tls.Dial("tcp", host, config)
	if err != nil {
		w.errors, w.firstError = 1, err.Error()
		return
	}
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 1<<18)
	for ; time.Now().Before(end); next++ {
		started := time.Now()
		if _, err = connection.Write(requests[next%len(requests)]); err != nil {
			break
		}
		answer, failed := http.ReadResponse(reader, nil)
		if err = failed; err != nil {
			break
		}
		if answer.StatusCode >= 400 {
			w.errors++
			text, _ := io.ReadAll(answer.Body)
			if w.firstError == "" {
				w.firstError = fmt.Sprintf("%d %s", answer.StatusCode, text)
			}
			continue
		}
		if _, err = io.Copy(io.Discard, answer.Body); err != nil {
			break
		}
		w.latencies = append(w.latencies, time.Since(started))
	}
	if err != nil {
		w.errors++
		w.firstError = err.Error()
	}
}

func summary(workers []worker, took time.Duration) result {
	r := result{Seconds: took.Seconds()}
	latencies := []time.Duration{}
	for _, w := range workers {
		latencies = append(latencies, w.latencies...)
		r.Errors += w.errors
		if r.FirstError == "" {
			r.FirstError = w.firstError
		}
	}
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	r.Requests = len(latencies)
	r.PerSecond = float64(r.Requests) / r.Seconds
	if r.Requests > 0 {
		r.P50ms = latencies[r.Requests/2].Seconds() * 1000
		r.P99ms = latencies[r.Requests*99/100].Seconds() * 1000
	}
	return r
}

func read(file string) []byte {
	data, err := os.ReadFile(file)
	check(err)
	return data
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
