package credentials

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/ossmount/ossmount/internal/remote"
)

// names are those of the environment variables of a key.
type names struct{ id, secret, token string }

var (
	envNames   = names{"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"}
	cloudNames = names{"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"}
)

// newEnv reads the variables of OSS's tools or, if they are not set, those of all of
// Alibaba Cloud's.
func newEnv() (remote.Credentials, error) {
	n := envNames
	if !isSet(n.id, n.secret) && isSet(cloudNames.id, cloudNames.secret) {
		n = cloudNames
	}
	k := remote.Key{ID: os.Getenv(n.id), Secret: os.Getenv(n.secret), Token: os.Getenv(n.token),
		Remedy: fmt.Sprintf("set %s and %s, and with a temporary key %s, to a key that is valid, and mount again", n.id, n.secret, n.token)}
	var missing []string
	if k.ID == "" {
		missing = append(missing, n.id)
	}
	if k.Secret == "" {
		missing = append(missing, n.secret)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no credentials: set the environment variable %s", strings.Join(missing, " and "))
	}
	return fixed{k}, nil
}

// fixed is a key that stays as it is, as the environment of a process does.
type fixed struct{ key remote.Key }

func (f fixed) Get(context.Context) (remote.Key, error) { return f.key, nil }
