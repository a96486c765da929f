package qwenguardprometheus_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
	"github.com/libqwenguard/libqwenguard/bindings/go/qwenguardprometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

type source struct {
	text string
	err  error
}

func (s source) Metrics() (string, error) { return s.text, s.err }

const metrics = `# HELP qwenguard_open_streams Streams that are open.
# TYPE qwenguard_open_streams gauge
qwenguard_open_streams 2
# HELP qwenguard_step_seconds Time of a step.
# TYPE qwenguard_step_seconds histogram
qwenguard_step_seconds_bucket{le="0.5"} 1
qwenguard_step_seconds_bucket{le="+Inf"} 3
qwenguard_step_seconds_sum 4.5
qwenguard_step_seconds_count 3
# HELP qwenguard_verdicts_total Verdicts.
# TYPE qwenguard_verdicts_total counter
qwenguard_verdicts_total{category="Violent",channel="answer"} 7
qwenguard_verdicts_total{category="a \"b\"",channel="prompt"} 1
`

func gathered(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

func TestEverythingIsPassedOn(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(qwenguardprometheus.NewCollector(source{text: metrics}))
	if text := gathered(t, registry); text != metrics {
		t.Fatal(text)
	}
}

func TestGuardsOfOneRegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"chat", "batch"} {
		prometheus.WrapRegistererWith(prometheus.Labels{"guard": name}, registry).
			MustRegister(qwenguardprometheus.NewCollector(source{text: metrics}))
	}
	text := gathered(t, registry)
	for _, line := range []string{
		`qwenguard_open_streams{guard="batch"} 2`,
		`qwenguard_verdicts_total{category="Violent",channel="answer",guard="chat"} 7`,
		`qwenguard_step_seconds_bucket{guard="chat",le="0.5"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
}

func TestFailures(t *testing.T) {
	closed := errors.New("the guard is closed")
	for _, failing := range []struct {
		source source
		says   string
	}{
		{source{err: closed}, "the guard is closed"},
		{source{text: "a b c d\n"}, "cannot be read"},
	} {
		registry := prometheus.NewRegistry()
		registry.MustRegister(qwenguardprometheus.NewCollector(failing.source))
		if _, err := registry.Gather(); err == nil || !strings.Contains(err.Error(), failing.says) {
			t.Errorf("%v is not %q", err, failing.says)
		}
	}
}

func TestAGuard(t *testing.T) {
	guard, err := qwenguard.OpenNano(&qwenguard.Options{Threads: 1, CacheMiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := guard.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Prompt(t.Context(), qwenguard.User("Hello")); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(qwenguardprometheus.NewCollector(guard))
	text := gathered(t, registry)
	for _, part := range []string{"qwenguard_open_streams 1\n", "# TYPE qwenguard_step_seconds histogram\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	stream.Close()
	guard.Close()
	if _, err := registry.Gather(); err == nil || !strings.Contains(err.Error(), "guard already closed") {
		t.Fatal(err)
	}
}
