package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	rules     = "prometheus/ossmount.rules.yaml"
	rulesTest = "prometheus/ossmount.rules.test.yaml"
	dashboard = "grafana/ossmount.json"
)

// promtool runs promtool, and fails the test with what it says.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v (.ci/tools installs it)\n%s", args, err, out)
	}
}

func TestAlertRulesAreValidAndFire(t *testing.T) {
	promtool(t, "check", "rules", rules)
	promtool(t, "test", "rules", rulesTest)
}

// Each rule has a case in which it fires, and one in which it does not.
func TestEachAlertHasItsStory(t *testing.T) {
	cases := regexp.MustCompile(`(?s)alertname: (\w+)(\s+exp_alerts:)?`).FindAllStringSubmatch(read(t, rulesTest), -1)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		if c[2] != "" {
			fires[c[1]] = true
		} else {
			rests[c[1]] = true
		}
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, rules), -1)
	if len(alerts) == 0 {
		t.Fatal("there are no rules")
	}
	for _, a := range alerts {
		if !fires[a[1]] || !rests[a[1]] {
			t.Errorf("%s: it is seen to fire: %v, and not to: %v", a[1], fires[a[1]], rests[a[1]])
		}
	}
}

// expressions are the queries of the dashboard.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &d); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, is there twice or shows nothing", p.ID, p.Title)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard asks nothing")
	}
	return all
}

// What the dashboard asks is PromQL, once Grafana has put its variables in.
func TestDashboardAsksWhatCanBeAnswered(t *testing.T) {
	text := "groups:\n- name: dashboard\n  rules:\n"
	for i, expr := range expressions(t) {
		expr = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(expr)
		if strings.Contains(expr, "$") {
			t.Errorf("a variable that the dashboard does not have: %s", expr)
		}
		text += fmt.Sprintf("  - record: dashboard:%d\n    expr: %q\n", i, expr)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
