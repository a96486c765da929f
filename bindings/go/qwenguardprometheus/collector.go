// Package qwenguardprometheus gives the metrics of a guard to a registry of Prometheus' client library:
//
//	registry.MustRegister(qwenguardprometheus.NewCollector(guard))
//
// It is a module of its own, so that programs that do not want it do not get its dependencies.
package qwenguardprometheus

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Source has metrics in the text format of Prometheus, as a *qwenguard.Guard does.
type Source interface {
	Metrics() (string, error)
}

// The import also makes `go get` of this module alone record what a program with a guard needs.
var _ Source = (*qwenguard.Guard)(nil)

// Collector is a [prometheus.Collector] for any number of goroutines at once. It says beforehand nothing of what it collects,
// so that it has whatever the library that is loaded has.
type Collector struct {
	source Source
}

// NewCollector makes a collector of the metrics of a guard. Unregister it before the guard is closed: what cannot be had makes
// the collection fail. For several guards in one registry, give each a label:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"guard": "chat"}, registry).MustRegister(NewCollector(guard))
func NewCollector(source Source) *Collector { return &Collector{source} }

// Describe does nothing: see [Collector].
func (*Collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the metrics once.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	text, err := c.source.Metrics()
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		err = fmt.Errorf("qwenguardprometheus: the library's metrics cannot be read: %w", err)
		metrics <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		family := families[name]
		for _, values := range family.GetMetric() {
			metrics <- collected{description(family, values), values}
		}
	}
}

func description(family *dto.MetricFamily, values *dto.Metric) *prometheus.Desc {
	labels := make([]string, len(values.GetLabel()))
	for index, label := range values.GetLabel() {
		labels[index] = label.GetName()
	}
	return prometheus.NewDesc(family.GetName(), family.GetHelp(), labels, nil)
}

// collected is a metric as it was read.
type collected struct {
	description *prometheus.Desc
	values      *dto.Metric
}

func (c collected) Desc() *prometheus.Desc { return c.description }

func (c collected) Write(out *dto.Metric) error {
	out.Label = slices.Clone(c.values.GetLabel())
	out.Counter, out.Gauge, out.Untyped = c.values.Counter, c.values.Gauge, c.values.Untyped
	out.Histogram, out.Summary = c.values.Histogram, c.values.Summary
	return nil
}
