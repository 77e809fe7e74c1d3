package credentials

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/ossmount/ossmount/internal/remote"
)

const (
	envECSRole          = "ALIBABA_CLOUD_ECS_METADATA"
	envNoMetadata       = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"
	envMetadataEndpoint = "ALIBABA_CLOUD_ECS_METADATA_SERVICE_ENDPOINT"

	metadataEndpoint = "http://100.100.100.200"
	rolesPath        = "/latest/meta-data/ram/security-credentials/"
)

// ecs is the RAM role of an ECS instance, whose keys its metadata service gives out.
// They live for hours, and there is a new one well before the old one ends.
type ecs struct {
	endpoint string
	role     string // empty: the one that the instance has
	client   *http.Client
}

var roleName = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)

func newECS(role string) (remote.Credentials, error) {
	e := &ecs{endpoint: metadataEndpoint, role: role, client: newClient(nil)}
	if os.Getenv(envNoMetadata) == "true" {
		return nil, fmt.Errorf("%s is true: unset it, or name another source with --credentials", envNoMetadata)
	}
	if role == "" {
		e.role = os.Getenv(envECSRole)
	}
	if e.role != "" && !roleName.MatchString(e.role) {
		return nil, fmt.Errorf("%q is not the name of a RAM role: give the name alone, not its ARN (--credentials=ecs:NAME, or %s)", e.role, envECSRole)
	}
	if s := os.Getenv(envMetadataEndpoint); s != "" {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			return nil, fmt.Errorf("%s: write it as http://HOST[:PORT], or unset it", envMetadataEndpoint)
		}
		e.endpoint = "http://" + u.Host
	}
	return e, nil
}

// product is where the firmware of an ECS instance says that it is one.
var product = "/sys/class/dmi/id/product_name"

func onECS() bool {
	name, err := os.ReadFile(product)
	return err == nil && strings.HasPrefix(string(name), "Alibaba Cloud ECS")
}

const (
	metadata = "the metadata service"
	another  = ", or name another source with --credentials"
)

func (e *ecs) Get(ctx context.Context) (remote.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	token, err := e.ask(ctx, http.MethodPut, "/latest/api/token", "X-Aliyun-Ecs-Metadata-Token-Ttl-Seconds", "60")
	switch {
	case err != nil:
		return remote.Key{}, fmt.Errorf("%w: see that this is an ECS instance whose metadata service is enabled and can be reached from here"+another, err)
	case token.status != http.StatusOK:
		return remote.Key{}, fmt.Errorf("%s gives no token (status %d): enable it for this instance"+another, metadata, token.status)
	}
	get := func(path string) (reply, error) {
		return e.ask(ctx, http.MethodGet, path, "X-Aliyun-Ecs-Metadata-Token", strings.TrimSpace(string(token.body)))
	}
	role := e.role
	if role == "" {
		list, err := get(rolesPath)
		if err != nil {
			return remote.Key{}, err
		}
		first, _, _ := bytes.Cut(bytes.TrimSpace(list.body), []byte("\n"))
		if role = strings.TrimSpace(string(first)); list.status != http.StatusOK || !roleName.MatchString(role) {
			return remote.Key{}, fmt.Errorf("this ECS instance has no RAM role (status %d): attach one to it"+another, list.status)
		}
	}
	answer, err := get(rolesPath + role)
	switch {
	case err != nil:
		return remote.Key{}, err
	case answer.status != http.StatusOK:
		return remote.Key{}, fmt.Errorf("this ECS instance has no RAM role %q (status %d): attach it, or correct the name", role, answer.status)
	}
	k, err := parseJSON(answer.body)
	if err != nil {
		return remote.Key{}, fmt.Errorf("%s gives no key for the RAM role %q: %w: see that the role exists and trusts ECS", metadata, role, err)
	}
	k.Remedy = fmt.Sprintf("see that the RAM role %q exists and is attached to this instance; a new key is fetched by itself", role)
	return k, nil
}

func (e *ecs) ask(ctx context.Context, method, path, header, value string) (reply, error) {
	req, err := http.NewRequest(method, e.endpoint+path, nil)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set(header, value)
	return ask(ctx, e.client, metadata, req)
}
