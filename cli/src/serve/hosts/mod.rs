//! Gateways that ask the guard themselves, each by its own interface: [`litellm`] and [`agentgateway`] over HTTP, and with the
//! feature `ext-proc` Envoy over gRPC.

pub(crate) mod agentgateway;
#[cfg(feature = "ext-proc")]
pub(crate) mod ext_proc;
pub(crate) mod kept;
pub(crate) mod litellm;

use qwenguard::{Call, Decision, Message, PromptCheck, Reply};

use super::{App, calls::Judge, fault::Fault, numbers};

/// The prompt of an answer that comes without one.
const NO_PROMPT: &str = "";

/// Judges a conversation's prompt, and notes what was found.
async fn judge_prompt(judge: &mut Judge, messages: &[Message]) -> Result<PromptCheck, Fault> {
    let Reply::Prompt(check) = judge.call(Call::Prompt(messages)).await? else {
        unreachable!("a prompt is answered by a check")
    };
    if let Some(finding) = &check.finding {
        numbers::found("prompt", finding.risk, &finding.category, check.decision);
    }
    Ok(check)
}

/// Why a prompt is stopped, if it is.
fn stopped(check: &PromptCheck) -> Option<String> {
    let category = check.finding.as_ref().map(|finding| finding.category.as_str()).unwrap_or_default();
    (check.decision == Decision::Stop).then(|| format!("the prompt is stopped by the policy: {category}"))
}

/// Routes that want a guard that judges while an answer is written.
fn check_streams(app: &App) -> Result<(), Fault> {
    match app.is_gen() {
        true => Err(Fault::request("the guard judges whole conversations: POST /v1/guard/prompt and /v1/guard/answer")),
        false => Ok(()),
    }
}
