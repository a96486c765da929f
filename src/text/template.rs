//! The checkpoint's chat template.

use minijinja::{
    Environment, UndefinedBehavior, Value, context,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    value::ValueKind,
};

use super::message::Message;
use crate::{
    Error, Result,
    error::{Reason, one_line},
    limits,
};

const NAME: &str = "chat_template.jinja";

/// Filters that end assignments.
const FLAT: &str = "__flat";
const FLAT_ATTRIBUTE: &str = "__flat_attribute";

/// How deep calls of macros may go, by minijinja's measure: a loop counts one, a macro ten or more.
const RECURSION: usize = 100;

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template; the error says where it is wrong.
    pub(crate) fn new(source: &str) -> Result<Self, Reason> {
        // As Hugging Face renders templates: blocks leave no lines behind, and Python's string methods.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(Reason::of)?;
        let source = checked(source, &syntax)?;
        let mut environment = Environment::new();
        environment.set_debug(false);
        environment.set_recursion_limit(RECURSION);
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(|state, value, method, arguments| match method {
            // It pads to any width, unseen by the fuel.
            "format" => Err(minijinja::ErrorKind::UnknownMethod.into()),
            _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
        });
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_filter(FLAT, flat);
        environment.add_filter(FLAT_ATTRIBUTE, flat_attribute);
        environment.add_template_owned(NAME, source).map_err(Reason::of)?;
        Ok(ChatTemplate { environment })
    }

    /// Renders messages as the official code of streams does: no generation prompt, thinking off.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String> {
        self.render_with(messages, context! { add_generation_prompt => false, enable_thinking => false })
    }

    /// Renders messages as the official code of models does that write their verdict: no generation prompt, and nothing
    /// said of thinking.
    pub(crate) fn render_whole(&self, messages: &[Message]) -> Result<String> {
        self.render_with(messages, context! { add_generation_prompt => false })
    }

    fn render_with(&self, messages: &[Message], settings: Value) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel(messages)));
        let rendered = environment.get_template(NAME).and_then(|template| {
            let message = |message: &Message| context! { role => &*message.role, content => &*message.content };
            let messages: Vec<Value> = messages.iter().map(message).collect();
            template.render(context! { messages, ..settings })
        });
        rendered.map_err(|error| Error::conversation(Reason::of(error).after(format!("{NAME} refuses it"))))
    }
}

/// What rendering may cost.
fn fuel(messages: &[Message]) -> u64 {
    let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
    limits::TEMPLATE_FUEL + limits::TEMPLATE_FUEL_A_MESSAGE * messages.len() as u64 + bytes as u64
}

/// What a template's error says, in one line.
fn reason(error: &minijinja::Error) -> String {
    one_line(&error.to_string())
}

/// minijinja compiles an expression, and what is nested in statements, by recursion. So that no template is too much for
/// any thread's stack, both are limited before. So are the values that a template keeps, by a filter at the end of every
/// assignment: lists in lists, without end, are given back by recursion too.
fn checked(source: &str, syntax: &SyntaxConfig) -> Result<String, String> {
    let limit = limits::TEMPLATE_LINES;
    let longest = source.split('\n').map(str::len).max().unwrap_or(0);
    if longest > limit || source.matches('\n').count() >= limit {
        return Err(format!("more than {limit} lines, or a line of more than {limit} bytes"));
    }
    let mut statements = Vec::new();
    let (mut tokens, mut brackets, mut begins, mut sets) = (0, 0usize, false, false);
    // Where an assignment's value begins, and whether it goes to an attribute.
    let (mut value, mut attribute) = (None, false);
    let (mut guarded, mut copied) = (String::with_capacity(source.len()), 0);
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| reason(&error))?;
        let too = |what: &str, limit: usize| Err(format!("line {}: {what}, the limit is {limit}", span.start_line));
        tokens += 1;
        match token {
            Token::TemplateData(_) => tokens = 0,
            Token::VariableStart | Token::BlockStart => {
                (tokens, brackets, sets, value, attribute) = (0, 0, false, None, false);
            }
            Token::BlockEnd if value.is_some() => {
                let filter = if attribute { FLAT_ATTRIBUTE } else { FLAT };
                let (from, to) = (value.unwrap_or(0), span.start_offset as usize);
                let (before, inside) = (&source[copied..from], &source[from..to]);
                guarded.push_str(&format!("{before}({inside})|{filter} "));
                copied = to;
            }
            // `{% set name %}` without a value goes on up to its `endset`.
            Token::BlockEnd if sets => statements.push(1),
            Token::Assign if sets && brackets == 0 => (sets, value) = (false, Some(span.end_offset as usize)),
            Token::Dot if sets => attribute = true,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => brackets += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => brackets = brackets.saturating_sub(1),
            // minijinja takes its time over these before the fuel ends them.
            Token::Mul | Token::Pow => return Err(format!("line {}: {token} is not supported", span.start_line)),
            Token::Ident("indent") => return Err(format!("line {}: indent is not supported", span.start_line)),
            Token::Ident("set") if begins => sets = true,
            Token::Ident(name) if begins => count_statement(&mut statements, name),
            _ => {}
        }
        begins = matches!(token, Token::BlockStart);
        if tokens > limits::TEMPLATE_TAG_TOKENS {
            return too("too many words and signs in one tag", limits::TEMPLATE_TAG_TOKENS);
        }
        if brackets > limits::TEMPLATE_BRACKETS {
            return too("brackets are nested too deeply", limits::TEMPLATE_BRACKETS);
        }
        if statements.iter().sum::<usize>() > limits::TEMPLATE_DEPTH {
            return too("statements are nested too deeply", limits::TEMPLATE_DEPTH);
        }
    }
    Ok(guarded + &source[copied..])
}

/// A value that is assigned to a name.
fn flat(value: Value) -> Result<Value, minijinja::Error> {
    keep(value, true)
}

/// A value that is assigned to an attribute of a namespace: no map, or a namespace could hold itself.
fn flat_attribute(value: Value) -> Result<Value, minijinja::Error> {
    keep(value, false)
}

fn keep(value: Value, maps: bool) -> Result<Value, minijinja::Error> {
    // A list that is only computed when it is read would hold what it is computed from.
    let listed = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if value.downcast_object_ref::<Vec<Value>>().is_none() => {
            Value::from(value.try_iter()?.take(limits::TEMPLATE_ITEMS + 1).collect::<Vec<Value>>())
        }
        _ => value,
    };
    let mut items = limits::TEMPLATE_ITEMS;
    match is_flat(&listed, limits::TEMPLATE_NESTING, maps, &mut items) {
        true => Ok(listed),
        false => {
            let words = "an assigned value has too many items, nested too deeply, or is a map in an attribute";
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, words))
        }
    }
}

fn is_flat(value: &Value, levels: usize, maps: bool, items: &mut usize) -> bool {
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return true;
    }
    let Ok(inner) = value.try_iter() else { return false };
    levels > 0
        && (maps || !is_map)
        && inner.into_iter().all(|item| {
            *items = items.saturating_sub(1);
            let item = if is_map { value.get_item(&item).unwrap_or_default() } else { item };
            *items > 0 && is_flat(&item, levels - 1, maps, items)
        })
}

/// Keeps, for every statement that is open, the levels it takes.
fn count_statement(statements: &mut Vec<usize>, name: &str) {
    match name {
        "for" | "if" | "with" | "filter" | "macro" | "call" | "block" | "autoescape" => statements.push(1),
        "elif" => {
            if let Some(levels) = statements.last_mut() {
                *levels += 1;
            }
        }
        name if name.starts_with("end") => drop(statements.pop()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: &str = include_str!("../../tests/golden/chat_template.jinja");

    /// What is said about a template, by a thread with a stack as small as they come.
    fn refusal(source: String) -> String {
        let work = move || {
            let template = match ChatTemplate::new(&source) {
                Ok(template) => template,
                Err(reason) => return reason.reason,
            };
            match template.render(&[Message::user("How are you?"), Message::assistant("Fine.")]) {
                Ok(text) => format!("accepted: {} bytes", text.len()),
                Err(error) => error.to_string(),
            }
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(work).unwrap().join().unwrap()
    }

    #[test]
    fn templates_that_are_too_deep_are_refused_with_their_line() {
        let many = 2_000;
        let cases = [
            format!("{{{{ 1{} }}}}", "+1".repeat(many)),
            format!("{{{{ {}x }}}}", "not ".repeat(many)),
            format!("{{{{ {}1 }}}}", "-".repeat(many)),
            format!("{{{{ {}1{} }}}}", "(".repeat(many), ")".repeat(many)),
            format!("{{{{ {}1{} }}}}", "[".repeat(many), "]".repeat(many)),
            format!("{{{{ {}1{} }}}}", "{1:".repeat(many), "}".repeat(many)),
            format!("{{{{ x{} }}}}", "|list".repeat(many)),
            format!("{{{{ x{} }}}}", ".x".repeat(many)),
            format!("{{{{ x{} }}}}", "[0]".repeat(many)),
            format!("{{{{ x{} }}}}", "()".repeat(many)),
            format!("{{{{ x{} }}}}", " if x else x".repeat(many)),
            format!("{{{{ x{} }}}}", " is x".repeat(many)),
            format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(many)),
            format!("{}{}", "{% if x %}".repeat(many), "{% endif %}".repeat(many)),
            format!("{}{}", "{% for x in y %}".repeat(many), "{% endfor %}".repeat(many)),
            format!("{}{}", "{% set x %}".repeat(many), "{% endset %}".repeat(many)),
            format!("{}{}", "{% macro m() %}".repeat(many), "{% endmacro %}".repeat(many)),
            format!("{{% set x = 1{} %}}", "~1".repeat(many)),
        ];
        for source in cases {
            let reason = refusal(format!("\n{source}"));
            let long = reason.starts_with("more than 32768 lines, or a line");
            assert!(long || reason.starts_with("line 2: ") && reason.contains("the limit is"), "{reason}");
        }
    }

    /// What is just below the limits fits a small stack.
    #[test]
    fn templates_may_be_as_deep_as_the_limits_say() {
        let most = limits::TEMPLATE_TAG_TOKENS;
        let tags = [
            format!("{{{{ 1{} }}}}", "+1".repeat(most / 2 - 2)),
            format!("{{{{ {}x }}}}", "not ".repeat(most - 2)),
            format!("{{{{ {}1 }}}}", "-".repeat(most - 2)),
            format!("{{{{ x{} }}}}", "|string".repeat(most / 2 - 2)),
            format!("{{{{ {}1{} }}}}", "(".repeat(limits::TEMPLATE_BRACKETS), ")".repeat(limits::TEMPLATE_BRACKETS)),
        ];
        let depth = limits::TEMPLATE_DEPTH;
        for tag in tags {
            let nested = format!("{}{tag}{}", "{% if true %}".repeat(depth), "{% endif %}".repeat(depth));
            let reason = refusal(nested);
            assert!(reason.starts_with("accepted"), "{reason}");
        }
        let chain = format!("{{% if x %}}{}{{% else %}}y{{% endif %}}", "{% elif x %}".repeat(depth - 1));
        assert!(refusal(chain).starts_with("accepted"));
    }

    #[test]
    fn what_never_ends_or_grows_runs_out_of_fuel() {
        let grow = "{% set ns = namespace(x='xx') %}{% for i in range(90) %}";
        let cases = [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
            format!("{grow}{{% set ns.x = ns.x ~ ns.x %}}{{% endfor %}}"),
            format!("{grow}{{% set ns.x = ns.x + ns.x %}}{{% endfor %}}"),
            format!("{grow}{{% set ns.x = [ns.x, ns.x] %}}{{% endfor %}}{{{{ ns.x }}}}"),
            format!("{grow}{{% set ns.x = ns.x.replace('x', ns.x) %}}{{% endfor %}}"),
            format!("{grow}{{% set ns.x = ns.x.join([1, 2, 3]) %}}{{% endfor %}}"),
            "{{ 'x' * 90000000 }}".to_owned(),
            "{{ [1] * 90000000 }}".to_owned(),
            "{{ 'x'|center(1000000000) }}".to_owned(),
            "{{ 'x\\nx'|indent(1000000000) }}".to_owned(),
            "{{ [1, [2]]|tojson(indent=1000000000) }}".to_owned(),
            "{{ '%1000000000d'|format(1) }}".to_owned(),
            "{{ '{:>1000000000}'.format(1) }}".to_owned(),
            "{{ range(1000000000)|list }}".to_owned(),
            "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}".to_owned(),
            "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}".to_owned(),
            "{% include 'chat_template.jinja' %}".to_owned(),
            "{% extends 'chat_template.jinja' %}".to_owned(),
        ];
        for source in cases {
            let reason = refusal(source.clone());
            let named = reason.contains("chat_template.jinja") || reason.contains("is not supported");
            assert!(named, "{source}: {reason:.300}");
            assert!(reason.lines().count() == 1, "{source}: {reason:.300}");
        }
    }

    /// Values in values, which are compared, written and given back by recursion.
    #[test]
    fn values_in_values_do_no_harm() {
        let deep = "{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
        for source in [
            deep.to_owned(),
            deep.replace("range(99999)", "range(9000)") + "{{ ns.x }}",
            deep.replace("range(99999)", "range(9000)") + "{{ ns.x == [ns.x] }}",
            deep.replace("[ns.x]", "{1: ns.x}"),
            "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}{{ ns == ns.x }}{{ ns|tojson }}".to_owned(),
        ] {
            println!("{source}: {:.200}", refusal(source.clone()));
        }
    }

    #[test]
    fn the_longest_conversation_has_fuel() {
        let template = ChatTemplate::new(QWEN).unwrap();
        let turn = [Message::user("How are you?"), Message::assistant("<think>\nx\n</think>\n\nFine.")];
        let many: Vec<Message> = turn.iter().cycle().take(4000).cloned().collect();
        assert!(template.render(&many).unwrap().len() > 40_000);
        let long = "<think>\nx\n</think>\n\nI am fine. ".repeat(200_000);
        let long = [Message::system(&long), Message::user(&long), Message::assistant(&long)];
        assert!(template.render(&long).unwrap().len() > 5_000_000);
    }
}
