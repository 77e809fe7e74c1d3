package object

import (
	"net/http"
	"strings"
	"time"
)

// TypeSymlink is the Type of OSS's own symlinks: names that stand for another
// key of the bucket. Their bytes and sums are not those of an object.
const TypeSymlink = "Symlink"

// HeaderClass is the storage class among Headers.
const HeaderClass = "X-Oss-Storage-Class"

// HeaderACL is the ACL that PutObject, CopyObject and CompleteMultipartUpload give
// an object, in PutOptions.
const HeaderACL = "X-Oss-Object-Acl"

// HeaderSetTags gives an object tags, in PutOptions: KEY=VALUE&KEY=VALUE, escaped as in
// a URL.
const HeaderSetTags = "X-Oss-Tagging"

// HeaderTags is how many tags an object has, among Headers: whoever rewrites it
// asks for them. It is never sent.
const HeaderTags = "X-Oss-Tagging-Count"

// NeedsRestore reports a storage class whose objects must be restored before
// they can be read or copied: Archive, ColdArchive, DeepColdArchive.
func NeedsRestore(class string) bool { return strings.HasSuffix(class, "Archive") }

// Archived reports that the bytes of the object can be neither read nor copied
// now.
func (i Info) Archived() bool {
	if !NeedsRestore(i.Class) {
		return false
	}
	_, restored := i.Restored()
	return !restored
}

// Restoring reports that a restore was asked for and is not done yet.
func (i Info) Restoring() bool { return strings.Contains(i.Restore, `ongoing-request="true"`) }

// Restored reports that an archived object has been restored, and until when;
// the zero time: OSS did not say.
func (i Info) Restored() (until time.Time, ok bool) {
	if !strings.Contains(i.Restore, `ongoing-request="false"`) {
		return until, false
	}
	if _, at, found := strings.Cut(i.Restore, `expiry-date="`); found {
		at, _, _ = strings.Cut(at, `"`)
		until, _ = http.ParseTime(at)
	}
	return until, true
}
