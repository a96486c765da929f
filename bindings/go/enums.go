package qwenguard

// #include <qwenguard.h>
import "C"

import "fmt"

// Decision is what a host should do with a conversation.
type Decision int32

const (
	// DecisionContinue: the conversation may go on.
	DecisionContinue Decision = C.QG_DECISION_CONTINUE
	// DecisionStop: stop writing, and show nothing past the horizon.
	DecisionStop Decision = C.QG_DECISION_STOP
)

func (d Decision) String() string { return name("Decision", d, "continue", "stop") }

// Risk is how bad a text is.
type Risk int32

const (
	// RiskSafe: harmless.
	RiskSafe Risk = C.QG_RISK_SAFE
	// RiskControversial: harmful in some contexts or to some readers.
	RiskControversial Risk = C.QG_RISK_CONTROVERSIAL
	// RiskUnsafe: harmful.
	RiskUnsafe Risk = C.QG_RISK_UNSAFE
)

// String is "Safe", "Controversial" or "Unsafe".
func (r Risk) String() string {
	if name := riskName(int32(r)); name != "" {
		return name
	}
	return fmt.Sprintf("Risk(%d)", int32(r))
}

// Action is what is to be done where a rule of the policy applies.
type Action int32

const (
	// ActionIgnore: nothing.
	ActionIgnore Action = C.QG_ACTION_IGNORE
	// ActionFlag: report it and go on.
	ActionFlag Action = C.QG_ACTION_FLAG
	// ActionStop: stop.
	ActionStop Action = C.QG_ACTION_STOP
)

func (a Action) String() string { return name("Action", a, "ignore", "flag", "stop") }

// Channel is a part of an answer with rules of its own.
type Channel int32

const (
	// ChannelAnswer: what the answer says.
	ChannelAnswer Channel = C.QG_CHANNEL_ANSWER
	// ChannelThinking: the thinking before it.
	ChannelThinking Channel = C.QG_CHANNEL_THINKING
)

func (c Channel) String() string { return name("Channel", c, "answer", "thinking") }

// OpinionTrigger is why a second opinion was asked for.
type OpinionTrigger int32

const (
	// TriggerViolation: a violation was confirmed.
	TriggerViolation OpinionTrigger = C.QG_TRIGGER_VIOLATION
	// TriggerUncertain: tokens were uncertain.
	TriggerUncertain OpinionTrigger = C.QG_TRIGGER_UNCERTAIN
)

func (t OpinionTrigger) String() string { return name("OpinionTrigger", t, "violation", "uncertain") }

// OpinionOutcome is what came of a second opinion.
type OpinionOutcome int32

const (
	// OpinionConfirmed: it found something. The violation stands, or uncertain tokens are one.
	OpinionConfirmed OpinionOutcome = C.QG_OPINION_CONFIRMED
	// OpinionLifted: it found nothing, and the violation is lifted.
	OpinionLifted OpinionOutcome = C.QG_OPINION_LIFTED
	// OpinionCleared: it found nothing, and uncertain tokens do not count any more.
	OpinionCleared OpinionOutcome = C.QG_OPINION_CLEARED
	// OpinionReported: by the policy it changes nothing.
	OpinionReported OpinionOutcome = C.QG_OPINION_REPORTED
	// OpinionFailed: it could not be had. The violation stands, or uncertain tokens count as one, unless by the policy it
	// changes nothing.
	OpinionFailed OpinionOutcome = C.QG_OPINION_FAILED
)

func (o OpinionOutcome) String() string {
	return name("OpinionOutcome", o, "confirmed", "lifted", "cleared", "reported", "failed")
}

// Heads are those of the model that judge prompts, or answers. Each have categories of their own.
type Heads uint32

const (
	// HeadsPrompt judge prompts.
	HeadsPrompt Heads = C.QG_HEADS_PROMPT
	// HeadsAnswer judge answers, thinking included.
	HeadsAnswer Heads = C.QG_HEADS_ANSWER
)

func (h Heads) String() string { return name("Heads", int32(h), "prompt", "answer") }

// AnnotationMode is what of a conversation was judged.
type AnnotationMode int32

const (
	// ModePrompt: what the user asks. Categories are those of HeadsPrompt.
	ModePrompt AnnotationMode = C.QG_MODE_PROMPT
	// ModeResponse: what is answered. Categories are those of HeadsAnswer.
	ModeResponse AnnotationMode = C.QG_MODE_RESPONSE
)

func (m AnnotationMode) String() string { return name("AnnotationMode", m, "prompt", "response") }

// Decoding is how a verdict on a whole conversation is had of a model that writes it.
type Decoding uint32

const (
	// DecodingConstrained: held to the answer's grammar. Always gives a verdict, and probabilities of all decisions.
	DecodingConstrained Decoding = C.QG_DECODING_CONSTRAINED
	// DecodingLabelOnly: held to the grammar, and only the level is decided, without categories and refusal.
	DecodingLabelOnly Decoding = C.QG_DECODING_LABEL_ONLY
	// DecodingFree: as the official code has it, and what can be read in that. Slower by far, and without probabilities.
	DecodingFree Decoding = C.QG_DECODING_FREE
)

func (d Decoding) String() string {
	return name("Decoding", int32(d), "constrained", "label_only", "free")
}

// TextOverflow is what happens to a conversation that does not fit the model's context. Only its last message is ever cut,
// between characters; if the others leave room for fewer than 16 tokens of it, that is ErrContextFull.
type TextOverflow uint32

const (
	// OverflowRefuse: it is an error.
	OverflowRefuse TextOverflow = C.QG_TEXT_OVERFLOW_REFUSE
	// OverflowHead: the beginning of its last message is judged.
	OverflowHead TextOverflow = C.QG_TEXT_OVERFLOW_HEAD
	// OverflowTail: the end of its last message is judged.
	OverflowTail TextOverflow = C.QG_TEXT_OVERFLOW_TAIL
	// OverflowWindows: all of its last message is judged, in windows. The annotation is that of the gravest one; whether the
	// answer refuses is said by the first.
	OverflowWindows TextOverflow = C.QG_TEXT_OVERFLOW_WINDOWS
)

func (o TextOverflow) String() string {
	return name("TextOverflow", int32(o), "refuse", "head", "tail", "windows")
}

// MaxCategories is the most categories that a verdict can carry. A bundle with more is refused.
const MaxCategories = C.QG_MAX_CATEGORIES

func name[T ~int32](kind string, value T, names ...string) string {
	if value >= 0 && int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%s(%d)", kind, int32(value))
}
