//! `qg_annotation`: what is said of a whole conversation.

use std::ffi::{CString, c_char};

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{Out, borrow, text},
    failure::{Failure, qg_error},
    guard::Categories,
    memory::{free, give},
    result::{QG_MAX_CATEGORIES, action, decision, risk},
    status::qg_status,
    text::qg_text,
};
use crate::{Annotation, AnnotationMode, Decision, Policy, RewardRule, policy::AnnotationFinding};

/// What the user asks was judged: the last message is the user's. Categories are those of `QG_HEADS_PROMPT`.
pub const QG_MODE_PROMPT: i32 = 0;
/// What is answered was judged: the last message is of any other role. Categories are those of `QG_HEADS_ANSWER`.
pub const QG_MODE_RESPONSE: i32 = 1;

/// The verdict on a whole conversation. It needs no guard any more, and is memory like any other. Yours to free.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_annotation {
    annotation: Annotation,
    categories: Categories,
}

/// What a policy makes of an annotation.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_judgement {
    /// What is to be done: `QG_DECISION_`.
    pub decision: i32,
    /// 1 if a rule of the policy applies, else 0 and the four fields that follow are 0.
    pub has_finding: u32,
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    pub action: i32,
    /// The level that it counts as: `QG_RISK_`.
    pub risk: i32,
    /// Index of the category whose rule applies, or that is named, as in `qg_annotation_info`; -1 if none is known.
    pub category: i32,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// 0.
    pub reserved: [u64; 2],
}

/// What an annotation says, but for its texts.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct qg_annotation_info {
    /// What was judged: `QG_MODE_`.
    pub mode: i32,
    /// The level: `QG_RISK_`. Of equally probable ones it is the gravest.
    pub risk: i32,
    /// 1 if `risk_probabilities` say something, else 0 and they are all 0, as with `QG_DECODING_FREE`.
    pub has_risk_probabilities: u32,
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1.
    pub risk_probabilities: [f32; 3],
    /// 1 if all lines of the answer could be read. It is 0 with `QG_DECODING_FREE` only: a level that is missing counts as
    /// the gravest.
    pub parsed: u32,
    /// Whether the answer refuses: 1 or 0; -1 where that is not known, as for prompts.
    pub refusal: i32,
    /// 1 if `refusal_probability` says something, else 0 and that is 0.
    pub has_refusal_probability: u32,
    /// The probability that the answer refuses, 0 to 1.
    pub refusal_probability: f32,
    /// How many categories are named.
    pub category_count: u32,
    /// Indices of the categories that are named, in the order in which the model names them. Their names are
    /// `qg_annotation_category_name`'s. Those from `category_count` on are 0.
    pub categories: [u32; 16],
    /// 1 if `category_probabilities` say something, else 0 and they are all 0, as where the level is `QG_RISK_SAFE` or
    /// categories are not decided.
    pub has_category_probabilities: u32,
    /// How many categories there are to name.
    pub mode_category_count: u32,
    /// Probability of each category of being named first, 0 to 1, by its index. With `none_probability` they sum to 1. Those
    /// from `mode_category_count` on are 0.
    pub category_probabilities: [f32; 16],
    /// Probability that no category is named, 0 to 1. 0 of a bundle of the variant stream, which always names one.
    pub none_probability: f32,
    /// 1 if only a part of the last message was judged: see `QG_TEXT_OVERFLOW_`.
    pub is_cut: u32,
    /// How many windows of it were judged: 1, but for `QG_TEXT_OVERFLOW_WINDOWS`.
    pub windows: u32,
    /// Where the bytes of the last message's content begin that were judged.
    pub judged_start: u64,
    /// Where they end.
    pub judged_end: u64,
    /// How many tokens the model writes its answer to: those of the rendered conversation. 0 if it writes nothing.
    pub id_count: u64,
    /// What the policy of the guard makes of it.
    pub judgement: qg_judgement,
    /// 0.
    pub reserved: [u64; 6],
}

impl qg_annotation {
    pub(super) fn allocate(annotation: Annotation, categories: Categories) -> *mut qg_annotation {
        give(qg_annotation { annotation, categories })
    }

    /// The names that categories of its mode have.
    fn names(&self) -> &[CString] {
        &self.categories.names[mode(self.annotation.mode) as usize]
    }

    fn category(&self, name: &str) -> Option<usize> {
        self.names().iter().position(|known| known.to_bytes() == name.as_bytes())
    }

    fn info(&self) -> qg_annotation_info {
        let annotation = &self.annotation;
        let mut info = qg_annotation_info {
            mode: mode(annotation.mode),
            risk: risk(annotation.risk),
            has_risk_probabilities: (!annotation.risk_probabilities.is_empty()).into(),
            risk_probabilities: [0.0; 3],
            parsed: annotation.parsed.into(),
            refusal: annotation.refusal.map_or(-1, i32::from),
            has_refusal_probability: annotation.refusal_probability.is_some().into(),
            refusal_probability: annotation.refusal_probability.unwrap_or(0.0),
            category_count: 0,
            categories: [0; QG_MAX_CATEGORIES],
            has_category_probabilities: annotation.category_probabilities.is_some().into(),
            mode_category_count: self.names().len() as u32,
            category_probabilities: [0.0; QG_MAX_CATEGORIES],
            none_probability: 0.0,
            is_cut: annotation.is_cut.into(),
            windows: annotation.windows as u32,
            judged_start: annotation.judged.start as u64,
            judged_end: annotation.judged.end as u64,
            id_count: annotation.prompt_ids.len() as u64,
            judgement: self.judgement(annotation.decision, annotation.finding.as_ref()),
            reserved: [0; 6],
        };
        for (level, probability) in &annotation.risk_probabilities {
            info.risk_probabilities[risk(*level) as usize] = *probability;
        }
        let named = annotation.categories.iter().filter_map(|name| self.category(name));
        for (place, category) in info.categories.iter_mut().zip(named) {
            *place = category as u32;
            info.category_count += 1;
        }
        for (name, probability) in annotation.category_probabilities.iter().flatten() {
            match name.as_deref().map(|name| self.category(name)) {
                None => info.none_probability = *probability,
                Some(Some(index)) => info.category_probabilities[index] = *probability,
                Some(None) => {}
            }
        }
        info
    }

    fn judgement(&self, decided: Decision, finding: Option<&AnnotationFinding>) -> qg_judgement {
        let decision = decision(decided);
        match finding {
            None => qg_judgement { decision, ..Default::default() },
            Some(finding) => qg_judgement {
                decision,
                has_finding: 1,
                action: action(finding.action),
                risk: risk(finding.risk),
                category: finding
                    .category
                    .as_ref()
                    .and_then(|name| self.category(name))
                    .map_or(-1, |index| index as i32),
                probability: finding.probability,
                reserved: [0; 2],
            },
        }
    }

    /// What a policy makes of it; an empty text means the guard's.
    fn judge(&self, policy: &str) -> Result<(Decision, Option<AnnotationFinding>), Failure> {
        if policy.is_empty() {
            return Ok((self.annotation.decision, self.annotation.finding.clone()));
        }
        let policy = Policy::from_toml(policy)?;
        policy.check_categories(&self.categories.query, &self.categories.response)?;
        Ok(self.annotation.judge(&policy))
    }
}

fn mode(mode: AnnotationMode) -> i32 {
    match mode {
        AnnotationMode::Prompt => QG_MODE_PROMPT,
        AnnotationMode::Response => QG_MODE_RESPONSE,
    }
}

/// Frees an annotation. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_free(annotation: *mut qg_annotation) {
    // SAFETY: the header wants an annotation or NULL.
    boundary::value((), || unsafe { free(annotation) })
}

/// Tells what an annotation says, but for its texts.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_get(
    annotation: *const qg_annotation,
    info: *mut qg_annotation_info,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, info) = unsafe { (borrow(annotation, "annotation")?, Out::new(info, "info")?) };
        info.write(annotation.info());
        Ok(())
    })
}

/// Gives the name of a category, exactly as the checkpoint spells it: UTF-8 that ends with a NUL. It lives as long as the
/// annotation. `category` is an index as `qg_annotation_info` has it, below its `mode_category_count`: the same as
/// `qg_guard_category_name`'s.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such category.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_category_name(
    annotation: *const qg_annotation,
    category: u32,
    name: *mut *const c_char,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, name) = unsafe { (borrow(annotation, "annotation")?, Out::new(name, "name")?) };
        let names = annotation.names();
        let missing = || Failure::argument("category", format!("{category} is not below {}", names.len()));
        name.write(names.get(category as usize).ok_or_else(missing)?.as_ptr());
        Ok(())
    })
}

/// Gives what the model writes: empty if it writes nothing, as one of the variant stream. The text is yours to free.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_answer(
    annotation: *const qg_annotation,
    answer: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, answer) = unsafe { (borrow(annotation, "annotation")?, Out::new(answer, "answer")?) };
        answer.write(qg_text::allocate(annotation.annotation.answer.as_str()));
        Ok(())
    })
}

/// Gives an annotation as a JSON object: the line that `qwenguard annotate` writes without a policy, and without an `id`. The
/// text is yours to free.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_json(
    annotation: *const qg_annotation,
    json: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, json) = unsafe { (borrow(annotation, "annotation")?, Out::new(json, "json")?) };
        let text = serde_json::to_string(&annotation.annotation);
        json.write(qg_text::allocate(text.map_err(|error| Failure::Panic(error.to_string()))?));
        Ok(())
    })
}

/// Tells what another policy makes of an annotation, without the model: a TOML document (UTF-8) as `qg_stream_open` takes it.
/// The rules for prompts or those for answers apply, by the mode. A length of 0 means the policy of the guard.
///
/// `*rule` becomes the rule that applies, by the names of its settings, such as "answer.strict": yours to free, NULL if none
/// applies. `rule` may be NULL if that is not wanted.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the policy is not UTF-8; QG_ERROR_CONFIG if it is wrong or names a category
/// that the model does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_judge(
    annotation: *const qg_annotation,
    policy: *const c_char,
    policy_length: usize,
    judgement: *mut qg_judgement,
    rule: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, policy, judgement, rule) = unsafe {
            (
                borrow(annotation, "annotation")?,
                text(policy, policy_length, "policy")?,
                Out::new(judgement, "judgement")?,
                Out::new(rule, "rule").ok(),
            )
        };
        let (decision, finding) = annotation.judge(policy)?;
        judgement.write(annotation.judgement(decision, finding.as_ref()));
        if let Some(rule) = rule {
            rule.write(finding.map_or(std::ptr::null_mut(), |finding| qg_text::allocate(finding.rule)));
        }
        Ok(())
    })
}

/// Gives the reward of a response for reinforcement learning, by a rule: a TOML document (UTF-8) with `form` ("guard" or
/// "hybrid"), `controversial_is_safe`, `safe`, `not_safe`, `not_safe_cap` and `refusal_cap`. A length of 0 means the defaults:
/// 1 if the response is safe, 0 if not.
///
/// `annotation` is that of the response. `thinking` is that of its thinking, judged as a response of its own, or NULL: the
/// response is safe if both say so. `helpfulness` is the score of a reward model, which the form "guard" has no use for.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_CONFIG if the rule is wrong; QG_ERROR_ARGUMENT if it is not UTF-8, an annotation is of a
/// prompt, the score is needed and is no finite number, or it matters whether the response refuses and that is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_annotation_reward(
    annotation: *const qg_annotation,
    thinking: *const qg_annotation,
    rule: *const c_char,
    rule_length: usize,
    helpfulness: f64,
    reward: *mut f64,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (annotation, thinking, rule, reward) = unsafe {
            (
                borrow(annotation, "annotation")?,
                thinking.as_ref(),
                text(rule, rule_length, "rule")?,
                Out::new(reward, "reward")?,
            )
        };
        let rule = RewardRule::from_toml(rule)?;
        let all = thinking.into_iter().chain([annotation]).map(|one| &one.annotation);
        reward.write(rule.reward(&all.collect::<Vec<_>>(), helpfulness)?);
        Ok(())
    })
}
