package qwenguard

// #include <qwenguard.h>
import "C"

import "time"

// Message is a message of a conversation. Special tokens in it, such as <|im_end|>, are text: nobody can close their own
// turn.
type Message struct {
	// Role is "system" or "developer", which is the same, "user", "assistant", "tool" or what else the model's template
	// knows: exactly so.
	Role    string
	Content string
}

// System is what the host tells the model.
func System(content string) Message { return Message{"system", content} }

// User is a turn of the user.
func User(content string) Message { return Message{"user", content} }

// Assistant is an answer of the model.
func Assistant(content string) Message { return Message{"assistant", content} }

// Span is a part of a text, in bytes: [Start, End).
type Span struct {
	Start, End int
}

// Verdict is what the model says at one position.
type Verdict struct {
	// Risk is the most probable level.
	Risk Risk
	// Category is the index of the most probable category, or -1 where the risk is RiskSafe. [Guard.Categories] has names.
	Category int
	// RiskProbabilities are by Risk. They sum to 1.
	RiskProbabilities [3]float32

	categoryCount         int
	categoryProbabilities [MaxCategories]float32
}

// CategoryProbabilities are by index. They sum to 1 whatever the risk, and mean nothing where it is RiskSafe. The slice is of
// the verdict's own memory.
func (v *Verdict) CategoryProbabilities() []float32 {
	return v.categoryProbabilities[:v.categoryCount:v.categoryCount]
}

// PromptCheck is the verdict on a prompt.
type PromptCheck struct {
	// Decision is what the policy makes of it.
	Decision Decision
	// Finding is nil if no rule of the policy applies.
	Finding *Finding
	// Verdict is what the model says about the message that is judged, in the light of all before it.
	Verdict Verdict
}

// Finding is what a policy found in a prompt.
type Finding struct {
	// Action is ActionFlag or ActionStop.
	Action Action
	// Risk is the level that it counts as.
	Risk Risk
	// Category is an index among the categories of HeadsPrompt.
	Category int
	// Probability is that of the level.
	Probability float32
}

// Violation is where an answer turned. Bytes and tokens count from the start of the answer, tags and thinking included.
type Violation struct {
	// Action is ActionFlag or ActionStop.
	Action  Action
	Channel Channel
	// Risk is the level that it counts as.
	Risk Risk
	// Category is an index among the categories of HeadsAnswer.
	Category int
	// Probability is that of the level.
	Probability float32
	// Bytes begin with the first token that counts and end with the one that confirmed it.
	Bytes Span
	// FirstToken is the first token that counts.
	FirstToken int
	// ConfirmingToken is the one whose verdict gave level, category and probability.
	ConfirmingToken int
}

// Update is the result of a push.
type Update struct {
	// Decision stays DecisionStop once it is that, until the answer is cut back.
	Decision Decision
	// Horizon is how many bytes of the answer may be shown: whole characters only, and none of a violation. For an answer
	// that grows it never moves back.
	Horizon int
	// HorizonTokens is how many tokens are within the horizon.
	HorizonTokens int
	// Received is how many bytes of the answer were pushed so far.
	Received int
	// Excess is how many of those a host that showed them has to take back. 0 while the answer may go on.
	Excess int
	// FinalTokens is how many tokens are final. Those after them are provisional: the next text may merge with them.
	FinalTokens int
	// TokenCount is how many tokens were judged now: [Stream.Tokens].
	TokenCount int
	// FlagCount is how many places rules of the policy flag, found now: [Stream.Flags].
	FlagCount int
	// Violation is where the answer must stop, found now or in an earlier push, or nil.
	Violation *Violation
	// VoidFrom is from which token on, by [TokenVerdict].Index, what was said earlier is void: verdicts, and flags that such a
	// token confirmed. [Stream.Tokens] take their place, if the answer still has as many. Where nothing is void this is how
	// many tokens the answer had before the call, those that are not judged included.
	VoidFrom int
	// OpinionCount is how many second opinions were asked for: [Stream.Opinions].
	OpinionCount int
}

// Opinion is a second opinion on an answer. Bytes and tokens count from the start of the answer, tags and thinking included.
type Opinion struct {
	Trigger OpinionTrigger
	Outcome OpinionOutcome
	Channel Channel
	// Annotated tells that it could be had; else Risk and RiskProbabilities are 0 and Outcome is OpinionFailed.
	Annotated bool
	// Risk is the level that it says.
	Risk Risk
	// RiskProbabilities are of each level, 0 to 1, by Risk.
	RiskProbabilities [3]float32
	// Bytes are in dispute. It is about all of the answer up to their end, whole characters only.
	Bytes Span
	// FirstToken is the first token in dispute.
	FirstToken int
	// ConfirmingToken is the last one, at which it was asked for.
	ConfirmingToken int
}

// TokenVerdict is one judged token of an answer.
type TokenVerdict struct {
	// Index is which token of the answer, from 0. Those around thinking count but are not judged.
	Index int
	// Bytes are those of the answer that it stands for.
	Bytes Span
	// ID is its number in the guard's vocabulary.
	ID      uint32
	Channel Channel
	// Final tells that no later text can change it. A provisional token moves neither the horizon nor the decision.
	Final bool
	// Verdict is what the model says about the answer up to here. Categories are those of HeadsAnswer.
	Verdict Verdict
}

// Stats is what a guard has done since it was opened, and how it is now. It is healthy while OldestWait stays small:
// that grows if steps hang, even when nothing else shows it.
type Stats struct {
	// Streams that are open.
	OpenStreams uint64
	// Streams that wait for an answer.
	WaitingStreams uint64
	// Tokens that were given and are not computed.
	QueuedTokens uint64
	// For how long the stream that waits longest has waited. 0 if none waits.
	OldestWait time.Duration
	// Runs of the model over the new tokens of one or more streams.
	Steps uint64
	// Steps that failed.
	FailedSteps uint64
	// Time of all steps.
	StepTime time.Duration
	// Tokens in all steps.
	Tokens uint64
	// Of those, tokens whose stream had computed them before and lost them to others.
	RecomputedTokens uint64
	// Tokens that were not computed because the cache had them from an equal prefix.
	PrefixHitTokens uint64
	// How often a stream lost its part of the cache to others.
	Evictions uint64
	// Streams that expired because they were idle.
	ExpiredStreams uint64
	// The most bytes that keys and values may take.
	CacheBytes uint64
	// Bytes of the cache that open streams use.
	CacheUsedBytes uint64
	// Bytes of the cache that no stream uses, but whose tokens are found if they come again. They are available.
	CacheUnusedBytes uint64
	// Second opinions that were asked for.
	Opinions uint64
	// Of those, how many confirmed what was in dispute.
	ConfirmedOpinions uint64
	// How many lifted a violation or cleared what was uncertain.
	LiftedOpinions uint64
	// How many were only reported.
	ReportedOpinions uint64
	// How many could not be had.
	FailedOpinions uint64
	// Time of all second opinions, each from when it was asked for.
	OpinionTime time.Duration
}

func goVerdict(raw *C.qg_verdict) Verdict {
	verdict := Verdict{
		Risk:          Risk(raw.risk),
		Category:      int(raw.category),
		categoryCount: min(int(raw.category_count), MaxCategories),
	}
	for level, probability := range raw.risk_probabilities {
		verdict.RiskProbabilities[level] = float32(probability)
	}
	for category, probability := range raw.category_probabilities {
		verdict.categoryProbabilities[category] = float32(probability)
	}
	return verdict
}

func goCheck(raw *C.qg_prompt_check) PromptCheck {
	check := PromptCheck{Decision: Decision(raw.decision), Verdict: goVerdict(&raw.verdict)}
	if raw.has_finding != 0 {
		check.Finding = &Finding{
			Action:      Action(raw.action),
			Risk:        Risk(raw.risk),
			Category:    int(raw.category),
			Probability: float32(raw.probability),
		}
	}
	return check
}

func goViolation(raw *C.qg_violation) Violation {
	return Violation{
		Action:          Action(raw.action),
		Channel:         Channel(raw.channel),
		Risk:            Risk(raw.risk),
		Category:        int(raw.category),
		Probability:     float32(raw.probability),
		Bytes:           Span{int(raw.byte_start), int(raw.byte_end)},
		FirstToken:      int(raw.first_token),
		ConfirmingToken: int(raw.confirming_token),
	}
}

func goUpdate(raw *C.qg_update) Update {
	update := Update{
		Decision:      Decision(raw.decision),
		Horizon:       int(raw.horizon),
		HorizonTokens: int(raw.horizon_tokens),
		Received:      int(raw.received),
		Excess:        int(raw.excess),
		FinalTokens:   int(raw.final_tokens),
		TokenCount:    int(raw.token_count),
		FlagCount:     int(raw.flag_count),
		VoidFrom:      int(raw.void_from),
		OpinionCount:  int(raw.opinion_count),
	}
	if raw.has_violation != 0 {
		violation := goViolation(&raw.violation)
		update.Violation = &violation
	}
	return update
}

func goOpinion(raw *C.qg_opinion) Opinion {
	opinion := Opinion{
		Trigger:         OpinionTrigger(raw.trigger),
		Outcome:         OpinionOutcome(raw.outcome),
		Channel:         Channel(raw.channel),
		Annotated:       raw.is_annotated != 0,
		Risk:            Risk(raw.risk),
		Bytes:           Span{int(raw.byte_start), int(raw.byte_end)},
		FirstToken:      int(raw.first_token),
		ConfirmingToken: int(raw.confirming_token),
	}
	for level, probability := range raw.risk_probabilities {
		opinion.RiskProbabilities[level] = float32(probability)
	}
	return opinion
}

func goToken(raw *C.qg_token_verdict) TokenVerdict {
	return TokenVerdict{
		Index:   int(raw.index),
		Bytes:   Span{int(raw.byte_start), int(raw.byte_end)},
		ID:      uint32(raw.token_id),
		Channel: Channel(raw.channel),
		Final:   raw.is_final != 0,
		Verdict: goVerdict(&raw.verdict),
	}
}

// goReply takes the error of a reply over.
func goReply(raw *C.qg_reply) Reply {
	if err := takeError(raw.status, raw.error); err != nil {
		return Reply{Err: err}
	}
	if raw.is_check != 0 {
		check := goCheck(&raw.check)
		return Reply{Check: &check}
	}
	update := goUpdate(&raw.update)
	return Reply{Update: &update}
}

// goCompletion takes the error and the annotation of a completion over.
func goCompletion(raw *C.qg_completion) Reply {
	if raw.annotation == nil {
		return goReply(&raw.reply)
	}
	annotation, err := newAnnotation(raw.annotation)
	return Reply{Err: err, Annotation: annotation}
}

// goAnnotation is without the texts, and without what a policy makes of it.
func goAnnotation(raw *C.qg_annotation_info, names []string) *Annotation {
	annotation := &Annotation{
		Mode:            AnnotationMode(raw.mode),
		Risk:            Risk(raw.risk),
		NoneProbability: float32(raw.none_probability),
		Parsed:          raw.parsed != 0,
		Judged:          Span{int(raw.judged_start), int(raw.judged_end)},
		Cut:             raw.is_cut != 0,
		Windows:         int(raw.windows),
		IDCount:         int(raw.id_count),
	}
	if raw.has_risk_probabilities != 0 {
		for _, probability := range raw.risk_probabilities {
			annotation.RiskProbabilities = append(annotation.RiskProbabilities, float32(probability))
		}
	}
	for _, category := range raw.categories[:raw.category_count] {
		annotation.Categories = append(annotation.Categories, names[category])
	}
	if raw.has_category_probabilities != 0 {
		for index, name := range names {
			probability := CategoryProbability{name, float32(raw.category_probabilities[index])}
			annotation.CategoryProbabilities = append(annotation.CategoryProbabilities, probability)
		}
	}
	if raw.refusal >= 0 {
		refusal := raw.refusal == 1
		annotation.Refusal = &refusal
	}
	if raw.has_refusal_probability != 0 {
		probability := float32(raw.refusal_probability)
		annotation.RefusalProbability = &probability
	}
	return annotation
}

func seconds(raw C.double) time.Duration { return time.Duration(float64(raw) * float64(time.Second)) }

func goStats(raw *C.qg_stats) Stats {
	return Stats{
		OpenStreams:      uint64(raw.open_streams),
		WaitingStreams:   uint64(raw.waiting_streams),
		QueuedTokens:     uint64(raw.queued_tokens),
		OldestWait:       seconds(raw.oldest_wait_seconds),
		Steps:            uint64(raw.steps),
		FailedSteps:      uint64(raw.failed_steps),
		StepTime:         seconds(raw.step_seconds),
		Tokens:           uint64(raw.tokens),
		RecomputedTokens: uint64(raw.recomputed_tokens),
		PrefixHitTokens:  uint64(raw.prefix_hit_tokens),
		Evictions:        uint64(raw.evictions),
		ExpiredStreams:   uint64(raw.expired_streams),
		CacheBytes:       uint64(raw.cache_bytes),
		CacheUsedBytes:   uint64(raw.cache_used_bytes),
		CacheUnusedBytes: uint64(raw.cache_unused_bytes),

		Opinions:          uint64(raw.opinions),
		ConfirmedOpinions: uint64(raw.confirmed_opinions),
		LiftedOpinions:    uint64(raw.lifted_opinions),
		ReportedOpinions:  uint64(raw.reported_opinions),
		FailedOpinions:    uint64(raw.failed_opinions),
		OpinionTime:       seconds(raw.opinion_seconds),
	}
}
