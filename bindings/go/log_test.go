package qwenguard

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// remembers keeps what is logged.
type remembers struct {
	mu      sync.Mutex
	records []slog.Record
}

func (r *remembers) Enabled(context.Context, slog.Level) bool { return true }
func (r *remembers) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *remembers) WithGroup(string) slog.Handler            { return r }
func (r *remembers) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record.Clone())
	return nil
}

func (r *remembers) said(part string) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		if strings.Contains(record.Message, part) {
			count++
		}
	}
	return count
}

func TestTheLogGoesToSlog(t *testing.T) {
	info, warnings := &remembers{}, &remembers{}
	log := must(OpenLog(slog.New(info), slog.LevelInfo))(t)
	other := must(OpenLog(slog.New(warnings), slog.LevelWarn))(t)
	guard := must(OpenNano(&Options{Threads: 1, CacheMiB: 64}))(t)
	guard.Close()
	other.Close()
	log.Close()
	log.Close()
	if info.said("kernels on the CPU isa=") != 1 {
		t.Errorf("%v", info.records)
	}
	if warnings.said("kernels") != 0 {
		t.Errorf("%v", warnings.records)
	}
	for _, record := range info.records {
		target := ""
		record.Attrs(func(attr slog.Attr) bool {
			target = attr.Value.String()
			return attr.Key != "target"
		})
		if record.Level < slog.LevelInfo || target == "" {
			t.Errorf("%v %s", record, target)
		}
	}
	guard = must(OpenNano(&Options{Threads: 1, CacheMiB: 64}))(t)
	guard.Close()
	if info.said("kernels on the CPU isa=") != 1 {
		t.Error("a closed log was told")
	}
	if _, err := OpenLog(nil, slog.LevelInfo); err == nil {
		t.Error("no logger")
	}
}

func TestLevelsOfTheLog(t *testing.T) {
	for number, level := range map[uint32]slog.Level{
		logError: slog.LevelError, logWarning: slog.LevelWarn, logInfo: slog.LevelInfo, logDebug: slog.LevelDebug, logTrace: -8,
	} {
		if logLevel(number) != level || logNumber(level) != number {
			t.Errorf("%d is %v, %v is %d", number, logLevel(number), level, logNumber(level))
		}
	}
	if logNumber(slog.LevelError+1) != logOff || logNumber(slog.LevelInfo+1) != logWarning || logNumber(-100) != logTrace {
		t.Error("between the levels")
	}
}

func TestVerdictsAreCounted(t *testing.T) {
	guard := must(OpenNano(&Options{Threads: 1, CacheMiB: 64, Config: "name = 'go'"}))(t)
	defer guard.Close()
	if counts := must(guard.VerdictCounts())(t); len(counts) != 0 {
		t.Errorf("%v", counts)
	}
	stream := must(guard.NewStream())(t)
	defer stream.Close()
	must(stream.Prompt(context.Background(), User("How do I clean the kitchen?")))(t)
	counts := must(guard.VerdictCounts())(t)
	wanted := VerdictCount{Channel: VerdictChannelPrompt, Risk: RiskSafe, Category: -1, Verdicts: 1}
	if len(counts) != 1 || counts[0] != wanted {
		t.Errorf("%v", counts)
	}
	line := "qwenguard_verdicts_total{guard=\"go\",channel=\"prompt\",level=\"Safe\",category=\"None\"} 1\n"
	if metrics := must(guard.Metrics())(t); !strings.Contains(metrics, line) {
		t.Error(metrics)
	}
}
