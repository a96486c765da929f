//! What holds for every public type: it can be printed, and goes between threads.

use std::fmt::Debug;

use qwenguard::{policy::*, *};

fn shared<T: Debug + Send + Sync>() {}

#[test]
fn every_public_type_can_be_printed_and_shared() {
    shared::<Activations>();
    shared::<AnnotateFuture>();
    shared::<AnnotateOptions>();
    shared::<Annotation>();
    shared::<AnnotationMode>();
    shared::<BuiltIn>();
    shared::<CacheConfig>();
    shared::<CachePrecision>();
    shared::<Call>();
    shared::<CallFuture>();
    shared::<Channel>();
    shared::<Completion>();
    shared::<CompletionQueue>();
    shared::<ComputeUnits>();
    shared::<Config>();
    shared::<CoreMlConfig>();
    shared::<CudaConfig>();
    shared::<Decision>();
    shared::<Decoding>();
    shared::<DirectMlConfig>();
    shared::<EngineConfig>();
    shared::<Error>();
    shared::<ErrorSource>();
    shared::<Guard>();
    shared::<Histogram>();
    shared::<Info>();
    shared::<Labels>();
    shared::<Message>();
    shared::<Opinion>();
    shared::<OpinionOutcome>();
    shared::<OpinionTrigger>();
    shared::<Overflow>();
    shared::<Policy>();
    shared::<PromptCheck>();
    shared::<PromptFinding>();
    shared::<Provider>();
    shared::<ProviderDevice>();
    shared::<ProviderStatus>();
    shared::<Reply>();
    shared::<RewardForm>();
    shared::<RewardRule>();
    shared::<Risk>();
    shared::<RuntimeConfig>();
    shared::<SecondOpinionConfig>();
    shared::<Stats>();
    shared::<Stream>();
    shared::<TextOverflow>();
    shared::<TextToken>();
    shared::<TokenVerdict>();
    shared::<Update>();
    shared::<Verdict>();
    shared::<VerdictChannel>();
    shared::<VerdictCount>();
    shared::<Violation>();
    shared::<WebGpuConfig>();
    shared::<Action>();
    shared::<AnnotationFinding>();
    shared::<CategoryRule>();
    shared::<Custom>();
    shared::<Debounce>();
    shared::<LevelRule>();
    shared::<Mode>();
    shared::<OnUncertain>();
    shared::<OnViolation>();
    shared::<PromptRules>();
    shared::<Rules>();
    shared::<SecondOpinion>();
    shared::<Uncertain>();
}

/// The lists above are all that `src/lib.rs` and `src/policy/mod.rs` give away.
#[test]
fn none_is_left_out() {
    let own = include_str!("public.rs");
    for source in [include_str!("../src/lib.rs"), include_str!("../src/policy/mod.rs")] {
        let given = source.split("pub use ").skip(1).filter_map(|text| Some(text.split_once(';')?.0));
        let words = given.flat_map(|given| given.split(|letter: char| !letter.is_alphanumeric()));
        for name in words.filter(|word| word.starts_with(char::is_uppercase)) {
            // A shorthand and a trait.
            let known = ["Result", "TokenId"].contains(&name) || own.contains(&format!("shared::<{name}>();"));
            assert!(known, "{name} is not looked at");
        }
    }
}
