package ossemu

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// needsRestore reports whether objects of class cannot be read as they are.
func needsRestore(class string) bool { return strings.HasSuffix(class, "Archive") }

// restoring and restored say how far the restore of o is at a time.
func (o *object) restoring(now int64) bool {
	return o.archived() && now < o.special.ready
}

func (o *object) restored(now int64) bool {
	return o.archived() && now >= o.special.ready && now < o.special.expires
}

// archived reports whether o has a restore that was asked for.
func (o *object) archived() bool {
	return needsRestore(o.class) && o.special != nil && o.special.ready != 0
}

// readable says whether the bytes of o can be read now.
func (o *object) readable(now int64) error {
	if needsRestore(o.class) && !o.restored(now) {
		return errArchived
	}
	return nil
}

// restoreInfo is what headers and listings say of a restore; empty if there is
// nothing to say.
func (o *object) restoreInfo(now int64) string {
	switch {
	case o.restoring(now):
		return `ongoing-request="true"`
	case o.restored(now):
		return fmt.Sprintf(`ongoing-request="false", expiry-date="%s"`, time.Unix(o.special.expires, 0).UTC().Format(http.TimeFormat))
	}
	return ""
}

type restoreRequest struct {
	XMLName xml.Name `xml:"RestoreRequest"`
	Days    *int64
	Tier    string `xml:"JobParameters>Tier"`
}

// restoreObject begins to make an archived object readable for some days, or
// gives a restored one more of them.
func (c *call) restoreObject() (*answer, error) {
	days, err := c.readRestore()
	if err != nil {
		return nil, err
	}
	status, now := http.StatusAccepted, c.clock()
	err = c.alterIf(func(o *object) error {
		if !needsRestore(o.class) {
			return errNoRestore
		}
		if o.class == "Archive" && days > 7 {
			return invalidArgument("Days", fmt.Sprint(days), "An archived object can be restored for 1 to 7 days.")
		}
		ready := now.Add(c.s.o.RestoreTime)
		if o.restoring(now.Unix()) {
			return errRestoring
		}
		if o.restored(now.Unix()) {
			status, ready = http.StatusOK, time.Unix(o.special.ready, 0)
		}
		expires := max(now.Unix(), ready.Unix()) + days*24*3600
		o.special = &special{ready: ready.Unix(), expires: expires}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: status}, nil
}

const maxRestoreDays = 365

// readRestore reads for how many days; without a body it is one.
func (c *call) readRestore() (days int64, err error) {
	malformed := malformedXML("")
	body, err := c.readSmall(64<<10, malformed)
	if err != nil || len(body) == 0 {
		return 1, err
	}
	var request restoreRequest
	if xml.Unmarshal(body, &request) != nil {
		return 0, malformed
	}
	if request.Tier != "" && !slices.Contains([]string{"Expedited", "Standard", "Bulk"}, request.Tier) {
		return 0, malformed
	}
	if request.Days == nil {
		return 1, nil
	}
	if *request.Days < 1 || *request.Days > maxRestoreDays {
		return 0, invalidArgument("Days", fmt.Sprint(*request.Days), "An object can be restored for 1 to 365 days.")
	}
	return *request.Days, nil
}
