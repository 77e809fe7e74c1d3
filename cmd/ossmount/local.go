package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

	"github.com/ossmount/ossmount/internal/remote"
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
func (k localKey) Get(context.Context) (remote.Key, error) {
	return remote.Key{ID: k.id, Secret: k.secret}, nil
}

func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
