package qwenguard

// #include <qwenguard.h>
import "C"

import (
	"context"
	"log/slog"
	"sync"
)

const (
	logOff     = C.QG_LOG_OFF
	logError   = C.QG_LOG_ERROR
	logWarning = C.QG_LOG_WARNING
	logInfo    = C.QG_LOG_INFO
	logDebug   = C.QG_LOG_DEBUG
	logTrace   = C.QG_LOG_TRACE
)

// Log hands messages of the library to a logger until it is closed.
type Log struct {
	raw     rawLog
	once    sync.Once
	stopped chan struct{}
}

// OpenLog has the messages of the library, and of ONNX Runtime as it uses it, logged from now on: those of the level and graver
// ones, each with the attribute "target", which says where it comes from. What ONNX Runtime says is mostly below
// [slog.LevelDebug].
//
// A goroutine hands them on, which takes a thread of the system for itself: the library never waits for the logger. If that is
// more than 1,024 messages behind, newer ones are lost, which is logged as a warning. A log that is not closed goes on for
// as long as the program does.
func OpenLog(logger *slog.Logger, level slog.Level) (*Log, error) {
	if logger == nil {
		return nil, &Error{Status: ErrArgument, Message: "argument logger: it is nil"}
	}
	if err := Compatible(); err != nil {
		return nil, err
	}
	raw, err := logOpen(logNumber(level))
	if err != nil {
		return nil, err
	}
	log := &Log{raw: raw, stopped: make(chan struct{})}
	go log.handOn(logger)
	return log, nil
}

// Close ends the log when all that came before is logged. It never fails. It must not be called by the logger.
func (l *Log) Close() error {
	l.once.Do(func() {
		_ = logEnd(l.raw)
		<-l.stopped
		logFree(l.raw)
	})
	return nil
}

func (l *Log) handOn(logger *slog.Logger) {
	defer close(l.stopped)
	ctx := context.Background()
	for {
		level, target, message, lost, err := logWait(l.raw, milliseconds(NoTimeout))
		if err != nil {
			return
		}
		if lost > 0 {
			logger.LogAttrs(ctx, slog.LevelWarn, "messages of the library were lost", slog.Uint64("count", lost))
		}
		if level != logOff {
			logger.LogAttrs(ctx, logLevel(level), message, slog.String("target", target))
		}
	}
}

// logNumber is the level of the library that has all that a level of slog has, and no more.
func logNumber(level slog.Level) uint32 {
	switch {
	case level > slog.LevelError:
		return logOff
	case level > slog.LevelWarn:
		return logError
	case level > slog.LevelInfo:
		return logWarning
	case level > slog.LevelDebug:
		return logInfo
	case level > slog.LevelDebug-4:
		return logDebug
	}
	return logTrace
}

// logLevel is a level of the library as slog has it.
func logLevel(number uint32) slog.Level {
	return slog.LevelInfo + 4*(logInfo-slog.Level(number))
}
