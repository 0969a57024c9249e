package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const cachedFor = 30 * time.Second

type caller struct {
	voID, userID, groupID int32
	vo, user              string
	scopes                map[string]bool
}

type remembered struct {
	caller *caller
	until  time.Time
}

// A verifier turns a request into its caller. A verified token is remembered for half a minute, as Spinor's own does.
type verifier struct {
	keys     map[string]*ecdsa.PublicKey
	issuer   string
	pool     *pgxpool.Pool
	identity queries
	mutex    sync.RWMutex
	known    map[string]remembered
}

type claims struct {
	Iss, Aud, Sub, Jti, Sid, Vo, Group, Scope string
	Exp, Iat                                  float64
}

func newVerifier(file, issuer string, pool *pgxpool.Pool, identity queries) (*verifier, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct{ Kty, Crv, Kid, X, Y string }
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	v := &verifier{keys: map[string]*ecdsa.PublicKey{}, issuer: issuer, pool: pool, identity: identity, known: map[string]remembered{}}
	for _, key := range set.Keys {
		if key.Kty == "EC" && key.Crv == "P-256" {
			v.keys[key.Kid] = &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(key.X), Y: number(key.Y)}
		}
	}
	return v, nil
}

func number(text string) *big.Int {
	data, _ := base64.RawURLEncoding.DecodeString(text)
	return new(big.Int).SetBytes(data)
}

func (v *verifier) callerOf(r *http.Request) (*caller, error) {
	given := r.Header.Get("Authorization")
	v.mutex.RLock()
	kept, found := v.known[given]
	v.mutex.RUnlock()
	if found && time.Now().Before(kept.until) {
		return kept.caller, nil
	}
	token, bearer := strings.CutPrefix(given, "Bearer ")
	if !bearer {
		return nil, refuse(401, "token-missing", "this needs an access token")
	}
	says, err := v.verified(token)
	if err != nil {
		return nil, err
	}
	who, err := v.member(r.Context(), says)
	if err != nil {
		return nil, err
	}
	v.mutex.Lock()
	v.known[given] = remembered{who, time.Now().Add(cachedFor)}
	v.mutex.Unlock()
	return who, nil
}

func (v *verifier) verified(token string) (*claims, error) {
	refused := refuse(401, "token-refused", "the access token is not valid")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, refused
	}
	var head struct{ Alg, Kid, Typ string }
	says := &claims{}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || decodePart(parts[0], &head) != nil || decodePart(parts[1], says) != nil || len(signature) != 64 {
		return nil, refused
	}
	key := v.keys[head.Kid]
	if key == nil || head.Alg != "ES256" {
		return nil, refused
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	now := float64(time.Now().Unix())
	if !ecdsa.Verify(key, digest[:], r, s) || says.Iss != v.issuer || says.Aud != v.issuer || says.Exp < now || says.Iat > now+30 {
		return nil, refused
	}
	return says, nil
}

func decodePart(text string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func (v *verifier) member(ctx context.Context, says *claims) (*caller, error) {
	statement := v.identity["find_member_by_subject"]
	values, err := statement.bind(map[string]any{"subject": says.Sub, "session_id": says.Sid, "vo": says.Vo, "group": says.Group})
	if err != nil {
		return nil, err
	}
	who := &caller{scopes: map[string]bool{}}
	var subject, fullName, email, group string
	var properties []string
	var suspended, open bool
	row := v.pool.QueryRow(ctx, statement.text, values...)
	err = row.Scan(&who.voID, &who.vo, &who.userID, &who.user, &subject, &fullName, &email, &who.groupID, &group, &properties,
		&suspended, &open)
	if err != nil || suspended || !open {
		return nil, refuse(401, "membership-ended", "the token names nobody of this service")
	}
	for _, scope := range strings.Fields(says.Scope) {
		who.scopes[scope] = true
	}
	return who, nil
}
