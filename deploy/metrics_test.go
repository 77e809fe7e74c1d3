package deploy

import (
	"regexp"
	"strings"
	"testing"
)

// What rules and dashboard ask for is what docs/metrics.md promises (internal/metrics
// keeps that page equal to what is exported), and the dashboard shows all of it.
func TestMetricsOfRulesAndDashboardAreExported(t *testing.T) {
	page := read(t, "../docs/metrics.md")
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(ossmount_[a-z_]+)` \\| (\\w+) \\|").FindAllStringSubmatch(page, -1) {
		kinds[m[1]] = m[2]
	}
	if len(kinds) == 0 {
		t.Fatal("docs/metrics.md has no row of a metric")
	}
	shown := map[string]bool{}
	for path, text := range map[string]string{rules: read(t, rules), rulesTest: read(t, rulesTest), dashboard: read(t, dashboard)} {
		for _, name := range regexp.MustCompile(`\bossmount_[a-z_]+`).FindAllString(text, -1) {
			metric := name
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				if m, cut := strings.CutSuffix(name, part); cut && kinds[m] == "histogram" {
					metric = m
				}
			}
			switch kinds[metric] {
			case "":
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", path, name)
			case "histogram":
				if metric == name {
					t.Errorf("%s asks for %s, which is a histogram: it has _bucket, _sum and _count", path, name)
				}
			}
			shown[metric] = shown[metric] || path == dashboard
		}
	}
	for metric := range kinds {
		if !shown[metric] {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}
