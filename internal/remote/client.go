package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Options says where the bucket is and how to speak to it.
type Options struct {
	// Endpoint is http://HOST or https://HOST without the bucket's name. An
	// IP address, localhost and a host name without a dot are addressed in
	// path style (http://HOST/BUCKET/KEY), all else as BUCKET.HOST.
	Endpoint string
	// Region such as cn-hangzhou. With it requests are signed by V4, without
	// it by V1.
	Region string
	// Bucket that all calls are about.
	Bucket string
	// Credentials fetch the key, when the first request is made. Needed.
	Credentials Credentials
	// Concurrency is how many requests at a time the caller means to have;
	// the connections kept open are sized to it. Default 16.
	Concurrency int
	// ConnectTimeout bounds the TCP dial and the TLS handshake, each.
	// Default 5 s.
	ConnectTimeout time.Duration
	// Idle is how long a socket may go without any progress before its
	// request fails. It is no bound on the request as a whole. Default 30 s.
	Idle time.Duration
	// HeaderTimeout is how long an answer may take to begin after the whole
	// request was sent. CompleteMultipartUpload, CopyObject and
	// UploadPartCopy have five times that, since OSS does their work before
	// it answers. Default 60 s.
	HeaderTimeout time.Duration
	// UploadLimit is bytes per second over all bodies sent, until SetUploadLimit.
	// 0: unlimited.
	UploadLimit int64
	// TrafficLimit is bytes per second at which OSS serves each request that moves the
	// bytes of an object, MinTrafficLimit to MaxTrafficLimit. 0: unlimited.
	TrafficLimit int64
	// RequesterPays: the caller is charged for the requests and the traffic,
	// as buckets that are set so demand of all but their owner.
	RequesterPays bool
	// Log gets one debug line per request, and one when the access key changes or
	// cannot be renewed. Default: none.
	Log *slog.Logger
	// UserAgent is sent with each request. Default ossmount.
	UserAgent string
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 60 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.UserAgent == "" {
		o.UserAgent = "ossmount"
	}
	return o
}

// Client is one bucket. All its methods may be called at the same time.
type Client struct {
	opts      Options
	conn      *oss.Conn
	transport *http.Transport
	limit     *throttle
	keys      *keyring
	tally     tally
}

// Open checks the options. It does not contact OSS; Check does.
func Open(o Options) (*Client, error) {
	o = o.withDefaults()
	host, err := endpointHost(o.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := oss.CheckBucketName(o.Bucket); err != nil {
		return nil, fmt.Errorf("bucket name %q: 3 to 63 of a-z, 0-9 and -, neither first nor last a -", o.Bucket)
	}
	if strings.HasPrefix(host, o.Bucket+".") {
		return nil, fmt.Errorf("endpoint %q: leave the name of the bucket out of it", o.Endpoint)
	}
	if o.Credentials == nil {
		return nil, errors.New("no credentials given")
	}
	c := &Client{opts: o, transport: newTransport(o), limit: newThrottle(o.UploadLimit), keys: newKeyring(o.Credentials, o.Log)}
	options := []oss.ClientOption{
		oss.SetCredentialsProvider(provider{c.keys}),
		oss.HTTPClient(&http.Client{
			Transport: &tripper{transport: c.transport},
			// A redirected upload would lose its body, and a signature is
			// good for one host only; a 3xx is an answer like any other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		oss.EnableCRC(false), // computed in body.go, once
		oss.EnableMD5(false),
		oss.UserAgent(o.UserAgent),
		oss.ForcePathStyle(pathStyle(host)),
	}
	if o.Region != "" {
		options = append(options, oss.AuthVersion(oss.AuthV4), oss.Region(strings.TrimPrefix(o.Region, "oss-")))
	}
	client, err := oss.New(strings.TrimRight(o.Endpoint, "/"), "", "", options...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", o.Endpoint, err)
	}
	c.conn = client.Conn
	return c, nil
}

// Close closes the idle connections, and calls off the fetching of a key. Other
// calls under way go on.
func (c *Client) Close() {
	c.keys.close()
	c.transport.CloseIdleConnections()
}

// endpointHost checks an endpoint and returns its host name. The SDK takes
// almost anything and drops a path silently.
func endpointHost(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return "", fmt.Errorf("endpoint %q: write it as https://HOST or http://HOST[:PORT]", withoutUser(u, endpoint))
	case u.User != nil:
		return "", errors.New("endpoint: no user and password there; the access key comes from --credentials")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("endpoint %q: nothing may follow the host", endpoint)
	}
	return u.Hostname(), nil
}

// withoutUser is what may be shown of an endpoint that was refused.
func withoutUser(u *url.URL, endpoint string) string {
	if u == nil || u.User != nil || strings.Contains(endpoint, "@") {
		return "..."
	}
	return endpoint
}

// pathStyle reports that the bucket belongs in the path: for names that no
// DNS holds below another, where BUCKET.HOST cannot be resolved. OSS itself
// refuses path style on its public endpoints.
func pathStyle(host string) bool {
	return net.ParseIP(host) != nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
}

// isLong reports the operations of which OSS does the work before it answers.
func isLong(op string) bool {
	return op == opComplete || op == opCopy || op == opPartCopy
}

func (c *Client) headerTimeout(op string) time.Duration {
	if isLong(op) {
		return 5 * c.opts.HeaderTimeout
	}
	return c.opts.HeaderTimeout
}
