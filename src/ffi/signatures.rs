//! Proof that every exported function takes and gives what C can: its type is one that `safer-ffi` knows as `ReprC`,
//! down to the fields of structs. A test compares this list with the functions in the source.

use safer_ffi::layout::ReprC;

use super::{
    annotate::*, annotation::*, call::*, error::*, guard::*, log::*, providers::*, queue::*, result::*, stats::*,
    stream::*, text::*, version::*, wake::*,
};

const fn is_repr_c<F: ReprC + Copy>(_: F) {}

macro_rules! prove {
    ($($function:ident ( $($argument:tt),* );)*) => {
        $(const _: () = is_repr_c($function as unsafe extern "C" fn($($argument),*) -> _);)*
    };
}

prove! {
    qg_version();
    qg_version_number();
    qg_abi_version();
    qg_status_name(_);
    qg_risk_name(_);
    qg_error_status(_);
    qg_error_message(_);
    qg_error_free(_);
    qg_text_data(_);
    qg_text_length(_);
    qg_text_free(_);
    qg_guard_options_init(_, _, _);
    qg_guard_open(_, _, _, _, _);
    qg_guard_open_nano(_, _, _);
    qg_guard_open_nano_gen(_, _, _);
    qg_guard_free(_);
    qg_providers(_, _, _);
    qg_guard_info(_, _, _);
    qg_guard_stats(_, _, _);
    qg_guard_metrics(_, _, _);
    qg_guard_verdict_counts(_, _, _, _, _);
    qg_guard_category_count(_, _, _, _);
    qg_guard_category_name(_, _, _, _, _);
    qg_guard_encode(_, _, _, _, _, _, _, _);
    qg_guard_token_bytes(_, _, _, _, _);
    qg_stream_open(_, _, _, _, _);
    qg_stream_free(_);
    qg_stream_prompt(_, _, _, _, _);
    qg_stream_next_turn(_, _, _, _, _);
    qg_stream_push_text(_, _, _, _, _);
    qg_stream_push_thinking(_, _, _, _, _);
    qg_stream_push_tokens(_, _, _, _, _);
    qg_stream_finish(_, _, _);
    qg_stream_truncate(_, _, _, _);
    qg_stream_truncate_tokens(_, _, _, _);
    qg_stream_fork(_, _, _);
    qg_stream_context_used(_, _, _);
    qg_stream_tokens(_, _, _, _, _);
    qg_stream_flags(_, _, _, _, _);
    qg_stream_opinions(_, _, _, _, _);
    qg_stream_opinion_annotation(_, _, _, _);
    qg_stream_rule(_, _, _);
    qg_stream_flag_rule(_, _, _, _);
    qg_streams_call(_, _, _, _);
    qg_annotation_free(_);
    qg_annotation_get(_, _, _);
    qg_annotation_category_name(_, _, _, _);
    qg_annotation_answer(_, _, _);
    qg_annotation_json(_, _, _);
    qg_annotation_judge(_, _, _, _, _, _);
    qg_annotation_reward(_, _, _, _, _, _, _);
    qg_guard_annotate(_, _, _, _, _, _);
    qg_guard_annotate_all(_, _, _, _, _, _);
    qg_queue_open(_, _);
    qg_queue_free(_);
    qg_queue_submit(_, _, _, _, _);
    qg_queue_annotate(_, _, _, _, _, _, _, _);
    qg_queue_wait(_, _, _, _, _, _);
    qg_queue_cancel(_, _, _, _);
    qg_queue_length(_, _, _);
    qg_queue_descriptor(_, _, _);
    qg_queue_set_wake(_, _, _, _);
    qg_log_set(_, _, _, _);
    qg_log_open(_, _, _);
    qg_log_wait(_, _, _, _, _, _, _);
    qg_log_end(_, _);
    qg_log_free(_);
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, mem::offset_of};

    use super::{super::message::qg_message, *};

    macro_rules! layout {
        ($($name:ident { $($field:ident),* })*) => {{
            let mut layout = String::new();
            $(
                // Names every field.
                let _ = |$name { $($field: _),* }: $name| ();
                writeln!(layout, "{} {}", stringify!($name), size_of::<$name>()).unwrap();
                $(
                    let offset = offset_of!($name, $field);
                    writeln!(layout, "{}.{} {offset}", stringify!($name), stringify!($field)).unwrap();
                )*
            )*
            layout
        }};
    }

    /// tests/c/layout.txt is what a C compiler says of the header on a 64-bit machine: see tests/ffi.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn layouts_are_those_of_the_header() {
        let layout = layout! {
            qg_guard_options { struct_size, threads, cache_mib, config_toml, config_toml_length, runtime_library, runtime_library_length }
            qg_span { start, end }
            qg_message { role, role_length, content, content_length }
            qg_verdict { risk, category, risk_probabilities, category_count, category_probabilities, reserved }
            qg_prompt_check { decision, has_finding, action, risk, category, probability, verdict, reserved }
            qg_violation { action, channel, risk, category, byte_start, byte_end, first_token, confirming_token, probability, reserved }
            qg_update { decision, has_violation, horizon, horizon_tokens, received, excess, final_tokens, token_count, flag_count, violation, void_from, opinion_count, reserved }
            qg_opinion { trigger, outcome, channel, risk, risk_probabilities, is_annotated, byte_start, byte_end, first_token, confirming_token, reserved }
            qg_token_verdict { index, byte_start, byte_end, token_id, channel, is_final, reserved, verdict }
            qg_stats { open_streams, waiting_streams, queued_tokens, oldest_wait_seconds, steps, failed_steps, step_seconds, tokens, recomputed_tokens, prefix_hit_tokens, evictions, expired_streams, cache_bytes, cache_used_bytes, cache_unused_bytes, opinions, confirmed_opinions, lifted_opinions, reported_opinions, failed_opinions, opinion_seconds, reserved }
            qg_verdict_count { channel, risk, category, reserved, verdicts, stops, flags }
            qg_call { stream, kind, reserved, data, length }
            qg_reply { status, is_check, error, check, update }
            qg_judgement { decision, has_finding, action, risk, category, probability, reserved }
            qg_annotation_info { mode, risk, has_risk_probabilities, risk_probabilities, parsed, refusal, has_refusal_probability, refusal_probability, category_count, categories, has_category_probabilities, mode_category_count, category_probabilities, none_probability, is_cut, windows, judged_start, judged_end, id_count, judgement, reserved }
            qg_annotate_options { struct_size, decoding, overflow, reserved }
            qg_conversation { messages, message_count }
            qg_annotation_result { status, reserved, error, annotation }
            qg_completion { tag, stream, reply, annotation }
        };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/layout.txt");
        assert_eq!(layout, std::fs::read_to_string(file).unwrap());
    }
}
