package qwenguard

// #include <qwenguard.h>
import "C"

// VerdictChannel is what a verdict is about, where verdicts are counted.
type VerdictChannel int32

const (
	// VerdictChannelPrompt: the prompt of a stream.
	VerdictChannelPrompt VerdictChannel = C.QG_VERDICT_CHANNEL_PROMPT
	// VerdictChannelThinking: a token of an answer's thinking.
	VerdictChannelThinking VerdictChannel = C.QG_VERDICT_CHANNEL_THINKING
	// VerdictChannelAnswer: a token of what an answer says.
	VerdictChannelAnswer VerdictChannel = C.QG_VERDICT_CHANNEL_ANSWER
	// VerdictChannelAnnotatedPrompt: a whole conversation, by what the user asks.
	VerdictChannelAnnotatedPrompt VerdictChannel = C.QG_VERDICT_CHANNEL_ANNOTATED_PROMPT
	// VerdictChannelAnnotatedResponse: a whole conversation, by what is answered.
	VerdictChannelAnnotatedResponse VerdictChannel = C.QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE
)

// String is the label of metrics, such as "annotated_prompt".
func (c VerdictChannel) String() string {
	return name("VerdictChannel", c, "prompt", "thinking", "answer", "annotated_prompt", "annotated_response")
}

// VerdictCount is how often a guard gave a verdict of one channel, level and category, and what policies made of it.
type VerdictCount struct {
	Channel VerdictChannel
	// Risk is the level: of a verdict the most probable one, of a stop or a flag the one that it counts as.
	Risk Risk
	// Category is an index among the categories of HeadsPrompt for prompts and annotated prompts, else of HeadsAnswer; -1 of
	// safe verdicts, and where none is known.
	Category int
	// Verdicts are the final ones: one for each prompt, for each token of an answer and for each annotation. Tokens that are
	// judged again after an answer was cut back count again.
	Verdicts uint64
	// Stops are how often the host was told to stop: a prompt, an answer or an annotation whose decision became DecisionStop.
	Stops uint64
	// Flags are what was reported and let the answer go on, and in shadow mode what would have stopped.
	Flags uint64
}

// VerdictCounts tells how often the guard gave which verdict: an element for each channel, level and category that there was.
// [Guard.Metrics] has the same with names.
func (g *Guard) VerdictCounts() ([]VerdictCount, error) {
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	raw := make([]C.qg_verdict_count, 64)
	count, err := guardVerdictCounts(g.handle.raw, raw)
	for err == nil && count > len(raw) {
		raw = make([]C.qg_verdict_count, count)
		count, err = guardVerdictCounts(g.handle.raw, raw)
	}
	counts := make([]VerdictCount, count)
	for index := range counts {
		own := &raw[index]
		counts[index] = VerdictCount{
			Channel: VerdictChannel(own.channel), Risk: Risk(own.risk), Category: int(own.category),
			Verdicts: uint64(own.verdicts), Stops: uint64(own.stops), Flags: uint64(own.flags),
		}
	}
	return counts, err
}
