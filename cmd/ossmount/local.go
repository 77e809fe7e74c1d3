package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// localKey are credentials for one run of local:DIR, known to nobody else.
type localKey struct{ id, secret string }

func newLocalKey() (localKey, error) {
	b := make([]byte, 24)
	if _, err := rand.Read(b); err != nil {
		return localKey{}, err
	}
	return localKey{id: "local", secret: hex.EncodeToString(b)}, nil
}

// Get implements remote.Credentials.
func (k localKey) Get() (id, secret, token string, err error) { return k.id, k.secret, "", nil }

func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
