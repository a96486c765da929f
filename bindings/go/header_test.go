package qwenguard

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// constants are those of qwenguard.h by name, as this package knows them.
var constants = map[string]uint64{
	"QG_VERSION_MAJOR": builtVersion / 1000000, "QG_VERSION_MINOR": builtVersion / 1000 % 1000,
	"QG_VERSION_PATCH": builtVersion % 1000, "QG_ABI_VERSION": builtABI,

	"QG_OK": uint64(statusOK), "QG_ERROR_RUNTIME_NOT_FOUND": uint64(ErrRuntimeNotFound),
	"QG_ERROR_RUNTIME_UNUSABLE": uint64(ErrRuntimeUnusable), "QG_ERROR_PROVIDER": uint64(ErrProvider),
	"QG_ERROR_CONFIG": uint64(ErrConfig), "QG_ERROR_BUNDLE_FILE": uint64(ErrBundleFile),
	"QG_ERROR_BUNDLE_FIELD": uint64(ErrBundleField), "QG_ERROR_BUNDLE_FORMAT": uint64(ErrBundleFormat),
	"QG_ERROR_CONVERSATION": uint64(ErrConversation), "QG_ERROR_ARGUMENT": uint64(ErrArgument),
	"QG_ERROR_WRONG_STATE": uint64(ErrWrongState), "QG_ERROR_CONTEXT_FULL": uint64(ErrContextFull),
	"QG_ERROR_BUSY": uint64(ErrBusy), "QG_ERROR_OUT_OF_MEMORY": uint64(ErrOutOfMemory),
	"QG_ERROR_INFERENCE": uint64(ErrInference), "QG_ERROR_ENGINE_STOPPED": uint64(ErrEngineStopped),
	"QG_ERROR_DEADLINE_EXCEEDED": uint64(ErrDeadlineExceeded), "QG_ERROR_EXPIRED": uint64(ErrExpired),
	"QG_ERROR_CANCELLED": uint64(ErrCancelled), "QG_ERROR_NULL": uint64(ErrNull), "QG_ERROR_ENUM": uint64(ErrEnum),
	"QG_ERROR_IN_USE": uint64(ErrInUse), "QG_ERROR_PANIC": uint64(ErrPanic),

	"QG_DECISION_CONTINUE": uint64(DecisionContinue), "QG_DECISION_STOP": uint64(DecisionStop),
	"QG_RISK_SAFE": uint64(RiskSafe), "QG_RISK_CONTROVERSIAL": uint64(RiskControversial), "QG_RISK_UNSAFE": uint64(RiskUnsafe),
	"QG_ACTION_IGNORE": uint64(ActionIgnore), "QG_ACTION_FLAG": uint64(ActionFlag), "QG_ACTION_STOP": uint64(ActionStop),
	"QG_TRIGGER_VIOLATION": uint64(TriggerViolation), "QG_TRIGGER_UNCERTAIN": uint64(TriggerUncertain),
	"QG_OPINION_CONFIRMED": uint64(OpinionConfirmed), "QG_OPINION_LIFTED": uint64(OpinionLifted),
	"QG_OPINION_CLEARED": uint64(OpinionCleared), "QG_OPINION_REPORTED": uint64(OpinionReported),
	"QG_OPINION_FAILED": uint64(OpinionFailed),
	"QG_CHANNEL_ANSWER": uint64(ChannelAnswer), "QG_CHANNEL_THINKING": uint64(ChannelThinking),
	"QG_HEADS_PROMPT": uint64(HeadsPrompt), "QG_HEADS_ANSWER": uint64(HeadsAnswer), "QG_MAX_CATEGORIES": MaxCategories,

	"QG_CALL_PROMPT": callPrompt, "QG_CALL_NEXT_TURN": callNextTurn, "QG_CALL_PUSH_TEXT": callPushText,
	"QG_CALL_PUSH_THINKING": callPushThinking, "QG_CALL_PUSH_TOKENS": callPushTokens, "QG_CALL_FINISH": callFinish,
	"QG_CALL_TRUNCATE": callTruncate, "QG_CALL_TRUNCATE_TOKENS": callTruncateTokens,

	"QG_MODE_PROMPT": uint64(ModePrompt), "QG_MODE_RESPONSE": uint64(ModeResponse),
	"QG_DECODING_CONSTRAINED": uint64(DecodingConstrained), "QG_DECODING_LABEL_ONLY": uint64(DecodingLabelOnly),
	"QG_DECODING_FREE":        uint64(DecodingFree),
	"QG_TEXT_OVERFLOW_REFUSE": uint64(OverflowRefuse), "QG_TEXT_OVERFLOW_HEAD": uint64(OverflowHead),
	"QG_TEXT_OVERFLOW_TAIL": uint64(OverflowTail), "QG_TEXT_OVERFLOW_WINDOWS": uint64(OverflowWindows),

	"QG_NO_TIMEOUT": milliseconds(NoTimeout),

	"QG_LOG_OFF": logOff, "QG_LOG_ERROR": logError, "QG_LOG_WARNING": logWarning, "QG_LOG_INFO": logInfo,
	"QG_LOG_DEBUG": logDebug, "QG_LOG_TRACE": logTrace,
	"QG_VERDICT_CHANNEL_PROMPT":             uint64(VerdictChannelPrompt),
	"QG_VERDICT_CHANNEL_THINKING":           uint64(VerdictChannelThinking),
	"QG_VERDICT_CHANNEL_ANSWER":             uint64(VerdictChannelAnswer),
	"QG_VERDICT_CHANNEL_ANNOTATED_PROMPT":   uint64(VerdictChannelAnnotatedPrompt),
	"QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE": uint64(VerdictChannelAnnotatedResponse),
}

func header(t *testing.T) string {
	t.Helper()
	return string(must(os.ReadFile(filepath.Join(repository, "include/qwenguard.h")))(t))
}

func TestEveryConstantOfTheHeader(t *testing.T) {
	defines := regexp.MustCompile(`(?m)^#define (QG_\w+) (\S+)$`).FindAllStringSubmatch(header(t), -1)
	if len(defines) < len(constants) {
		t.Fatalf("the header has %d constants, this test %d", len(defines), len(constants))
	}
	for _, define := range defines {
		name, text := define[1], define[2]
		value, err := strconv.ParseUint(text, 10, 64)
		if text == "UINT64_MAX" {
			value, err = math.MaxUint64, nil
		}
		if err != nil {
			t.Errorf("%s is %s", name, text)
		}
		if known, ok := constants[name]; !ok || known != value {
			t.Errorf("%s is %d; known: %v, %d", name, value, ok, known)
		}
	}
}

func TestEveryStatusHasItsName(t *testing.T) {
	for name, value := range constants {
		if status := Status(value); strings.HasPrefix(name, "QG_ERROR_") && status.String() != name {
			t.Errorf("%s is called %v", name, status)
		}
	}
	for value, wanted := range map[any]string{
		Status(77).String(): "Status(77)", Risk(7).String(): "Risk(7)", Decision(-1).String(): "Decision(-1)",
		Action(3).String(): "Action(3)", Channel(2).String(): "Channel(2)", HeadsAnswer.String(): "answer",
		ModeResponse.String(): "response", DecodingLabelOnly.String(): "label_only", OverflowWindows.String(): "windows",
	} {
		if value != wanted {
			t.Errorf("%q, not %q", value, wanted)
		}
	}
}

func TestEveryFunctionOfTheHeader(t *testing.T) {
	raw := string(must(os.ReadFile("raw.go"))(t))
	functions := regexp.MustCompile(`(?m)^[a-z][a-z0-9_ ]* \**(qg_\w+)\(`).FindAllStringSubmatch(header(t), -1)
	if len(functions) < 40 {
		t.Fatalf("the header has %d functions", len(functions))
	}
	for _, function := range functions {
		name := function[1]
		if !strings.Contains(raw, "C."+name+"(") {
			t.Errorf("%s is not called", name)
		}
	}
}
