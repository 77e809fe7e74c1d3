package credentials

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/remote"
)

// maxAnswer bounds what is read of a file, a command or a service: a key with its
// token has some kilobytes.
const maxAnswer = 256 << 10

var (
	errJSON    = errors.New("it is not a JSON object of texts")
	errExpires = errors.New("its Expiration is not a time such as 2006-01-02T15:04:05Z")
)

// parseJSON reads a key from a JSON object as services and commands give it:
//
//	{"AccessKeyId": "...", "AccessKeySecret": "...", "SecurityToken": "...", "Expiration": "2006-01-02T15:04:05Z"}
//
// The names of Alibaba Cloud's CLI (access_key_id, access_key_secret, sts_token,
// expiration) are understood, too. The errors quote nothing of it.
func parseJSON(text []byte) (remote.Key, error) {
	var all map[string]any
	if json.Unmarshal(text, &all) != nil || all == nil {
		return remote.Key{}, errJSON
	}
	fields := map[string]string{}
	for name, v := range all {
		if s, ok := v.(string); ok {
			fields[plain(name)] = s
		}
	}
	return keyOf(fields)
}

// plain is a name without what its writers disagree about.
func plain(name string) string {
	name = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), "_", ""))
	return strings.TrimPrefix(strings.TrimPrefix(name, "oss"), "alibabacloud")
}

// keyOf takes a key from fields by their plain names.
func keyOf(fields map[string]string) (remote.Key, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if s := strings.TrimSpace(fields[name]); s != "" {
				return s
			}
		}
		return ""
	}
	k := remote.Key{ID: first("accesskeyid"), Secret: first("accesskeysecret"),
		Token: first("securitytoken", "ststoken", "sessiontoken")}
	switch {
	case k.ID == "":
		return remote.Key{}, errors.New("it has no access key ID")
	case k.Secret == "":
		return remote.Key{}, errors.New("it has no access key secret")
	}
	if s := first("expiration"); s != "" {
		var err error
		if k.Expires, err = time.Parse(time.RFC3339, s); err != nil {
			return remote.Key{}, errExpires
		}
	}
	return k, nil
}

// parseLines reads a key from lines NAME=VALUE with the names of the environment.
func parseLines(text string) (remote.Key, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return remote.Key{}, errors.New("it is neither JSON nor lines of NAME=VALUE")
		}
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		fields[plain(name)] = value
	}
	return keyOf(fields)
}
