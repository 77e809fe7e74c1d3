package main

import (
	"github.com/spf13/pflag"

	"github.com/ossmount/ossmount/internal/credentials"
	"github.com/ossmount/ossmount/internal/remote"
)

func (f *mountFlags) credentialsFlag(fl *pflag.FlagSet) {
	fl.StringVar(&f.credentials, "credentials", "auto", "where the access key comes from: "+credentials.Forms)
}

// connect makes the client of a bucket, with the key that --credentials names unless
// there is one already. Nothing is asked yet; what is wrong is wrong usage.
func (f *mountFlags) connect(o remote.Options) (c *remote.Client, err error) {
	if o.Credentials == nil {
		if o.Credentials, err = credentials.New(f.credentials); err != nil {
			return nil, err
		}
	}
	return remote.Open(o)
}
