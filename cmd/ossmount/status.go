package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// inspect looks into a cache directory that no daemon has.
func inspect(ctx context.Context, dir string) (s mountStatus, err error) {
	c, j, err := openQuietly(ctx, dir)
	if err != nil {
		return s, err
	}
	defer c.Close()
	defer j.Close()
	id := c.Identity()
	p := place{bucket: id.Bucket, prefix: id.Prefix}
	p.local, _ = strings.CutPrefix(id.Endpoint, "local:")
	if p.local == id.Endpoint {
		p.local = ""
	}
	s = mountStatus{Source: p.String(), Bucket: id.Bucket, Prefix: id.Prefix,
		Endpoint: id.Endpoint, CacheDir: c.Dir(), Version: version(), OpenFiles: []string{}}
	if s.Queue, err = writeback.Inspect(j); err != nil {
		return s, err
	}
	if u, err := c.Usage(); err == nil {
		s.Cache = cacheStatus{Used: u.Used, Free: u.Free, Total: u.Total}
	}
	nameless, err := writeback.Nameless(j, c)
	if err != nil {
		return s, err
	}
	s.Cache.Nameless = len(nameless)
	if s.Room, err = writeback.RoomOf(j, c); err != nil {
		return s, err
	}
	return s, s.addLost(c)
}

// openQuietly opens a cache directory that no daemon has, and changes nothing.
func openQuietly(ctx context.Context, dir string) (*cache.Cache, *journal.Journal, error) {
	if _, err := cache.ReadIdentity(dir); err != nil {
		return nil, nil, err
	}
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return nil, nil, err
	}
	j, err := journal.Open(ctx, filepath.Join(c.Dir(), "journal"), journal.Options{Contents: c, ReadOnly: true})
	if errors.Is(err, journal.ErrDamaged) {
		err = fmt.Errorf("%w: the next mount (or ossmount drain) keeps it aside, and takes pending files up from the contents of %s", err, c.Dir())
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, j, nil
}
