// tests/vectors/annotations.json through the C++ classes. The arguments are the file and the folder of the project.
#include <functional>

#include "vectors.hpp"

namespace {

using qwenguard::Annotation;
using Messages = std::vector<qwenguard::Message>;

void flag(const char *what, const Json &wanted, bool found) {
    if (wanted.kind != Json::Boolean || wanted.boolean != found)
        differs(what, wanted.boolean ? "true" : "false", found ? "true" : "false");
}

/// Null is none.
template <class T, class Compare> void optional(const char *what, const Json &wanted, const std::optional<T> &found, Compare compare) {
    if ((wanted.kind == Json::Null) == found.has_value())
        differs(what, wanted.text, found ? "there" : "not there");
    if (found)
        compare(what, wanted, *found);
}

/// An annotation, or why there is none.
struct Answer {
    std::optional<Annotation> annotation;
    qwenguard::Status status = qwenguard::Status::Ok;
    std::string message;
};

Answer attempt(const std::function<Annotation()> &call) {
    try {
        return {call(), qwenguard::Status::Ok, {}};
    } catch (const qwenguard::Error &error) {
        return {std::nullopt, error.status(), error.message()};
    }
}

/// Makes a call that must succeed or fail as the file says.
void outcome(const Json &expect, const std::function<void()> &call) {
    try {
        call();
    } catch (const qwenguard::Error &error) {
        return failure(expect, error.status(), error.message());
    }
    success(expect);
}

void compare(const Json &expect, qwenguard::Decision decision, const std::optional<qwenguard::AnnotationFinding> &found) {
    same("decision", expect["decision"], name(decision));
    optional("finding", expect["finding"], found, [](const char *, const Json &wanted, const auto &finding) {
        same("action", wanted["action"], name(finding.action));
        same("risk", wanted["risk"], qwenguard::name(finding.risk));
        optional("category", wanted["category"], finding.category,
                 [](const char *what, const Json &text, const std::string &category) { same(what, text, category); });
        near("probability", wanted["probability"], finding.probability);
        same("rule", wanted["rule"], finding.rule);
    });
}

void levels(const Json &expect, const Annotation &found) {
    const Json &wanted = expect["risk_probs"];
    for (const auto risk : {qwenguard::Risk::Safe, qwenguard::Risk::Controversial, qwenguard::Risk::Unsafe}) {
        const std::optional<float> probability = found.probability(risk);
        CHECK(probability.has_value() == (wanted.kind == Json::Array));
        if (probability)
            near("risk_probs", wanted.items.at(static_cast<std::size_t>(risk)), *probability);
    }
}

void categories(const Json &expect, const Annotation &found) {
    const std::vector<std::string> named = found.categories();
    const Json &wanted = expect["category_probs"];
    CHECK(named.size() == expect["categories"].items.size());
    for (std::size_t index = 0; index < named.size(); index++)
        same("categories", expect["categories"].items[index], named[index]);
    near("none_prob", expect["none_prob"], found.none_probability());
    CHECK(wanted.items.size() == found.category_probabilities().size());
    CHECK(wanted.items.empty() || wanted.items.size() == found.category_names().size());
    for (std::size_t index = 0; index < wanted.items.size(); index++)
        near("category_probs", wanted.items[index], found.category_probabilities()[index]);
}

void compare(const Json &expect, const Annotation &found) {
    const bool is_prompt = found.mode() == qwenguard::AnnotationMode::Prompt;
    same("mode", expect["mode"], is_prompt ? "prompt" : "response");
    same("risk", expect["risk"], qwenguard::name(found.risk()));
    levels(expect, found);
    categories(expect, found);
    optional("refusal", expect["refusal"], found.refusal(), flag);
    optional("refusal_prob", expect["refusal_prob"], found.refusal_probability(), near);
    flag("parsed", expect["parsed"], found.parsed());
    same("answer", expect["answer"], std::string_view(found.answer()));
    flag("cut", expect["cut"], found.is_cut());
    same("judged", expect["judged"].items.at(0), found.judged().start);
    same("judged", expect["judged"].items.at(1), found.judged().end);
    same("windows", expect["windows"], found.windows());
    same("ids", expect["ids"], found.id_count());
    compare(expect, found.decision(), found.finding());
    const std::string line = found.json();
    same("mode", JsonReader(line).read()["mode"], is_prompt ? "prompt" : "response");
}

void compare(const Json &test, const std::vector<Answer> &answers, std::size_t index) {
    const Json &expect = test["expect"];
    if (!answers[index].annotation)
        return failure(expect, answers[index].status, answers[index].message);
    const Annotation &found = *answers[index].annotation;
    outcome(expect, [&] { compare(expect, found); });
    const std::vector<Json> none;
    const std::vector<Json> &policies = test.has("policies") ? test["policies"].items : none;
    CHECK(policies.size() == expect["judgements"].items.size());
    for (std::size_t at = 0; at < policies.size(); at++) {
        const Json &wanted = expect["judgements"].items[at];
        outcome(wanted, [&] {
            const qwenguard::Judgement judged = found.judge(policies[at].text);
            compare(wanted, judged.decision, judged.finding);
        });
    }
    const std::vector<Json> &rewards = test.has("rewards") ? test["rewards"].items : none;
    CHECK(rewards.size() == expect["rewards"].items.size());
    for (std::size_t at = 0; at < rewards.size(); at++) {
        const Json &step = rewards[at], &wanted = expect["rewards"].items[at];
        const std::string rule = step.has("rule") ? step["rule"].text : "";
        const double helpfulness = step.has("helpfulness") ? step["helpfulness"].real() : 0;
        const Annotation *thinking =
            step.has("thinking") ? &*answers.at(step["thinking"].whole()).annotation : nullptr;
        outcome(wanted, [&] { CHECK(found.reward(rule, helpfulness, thinking) == wanted["reward"].real()); });
    }
}

void compare(const std::vector<Json> &tests, const std::vector<Answer> &answers, const std::string &way) {
    CHECK(tests.size() == answers.size());
    for (std::size_t index = 0; index < tests.size(); index++) {
        place = tests[index]["name"].text + ", " + way;
        compare(tests[index], answers, index);
    }
}

std::vector<Answer> queued(const qwenguard::Guard &guard, const std::vector<Messages> &all,
                           const qwenguard::AnnotateOptions &options) {
    const qwenguard::Queue queue = qwenguard::Queue::open();
    std::vector<Answer> answers(all.size());
    for (std::size_t tag = 0; tag < all.size(); tag++)
        try {
            queue.annotate(guard, all[tag], tag, options);
        } catch (const qwenguard::Error &error) {
            answers[tag] = {std::nullopt, error.status(), error.message()};
        }
    while (queue.size() > 0)
        for (const qwenguard::Completion &done : queue.wait(qwenguard::Queue::forever, 2)) {
            CHECK(done.stream == nullptr);
            answers[done.tag] = attempt([&] { return done.reply.annotation(); });
        }
    return answers;
}

/// What stands at the place of a name, as the enumerations count.
std::uint32_t number(const std::string &name, std::initializer_list<const char *> names) {
    std::uint32_t number = 0;
    for (const char *one : names) {
        if (name == one)
            return number;
        number++;
    }
    CHECK(!"a name that is known");
    return number;
}

/// The conversations of a group; `texts` has what is repeated.
std::vector<Messages> conversations(const std::vector<Json> &tests, std::vector<std::string> &texts) {
    std::vector<Messages> all;
    texts.reserve(tests.size());
    for (const Json &test : tests) {
        Messages messages = ::messages(test);
        if (test.has("repeat")) {
            std::string text;
            for (std::uint64_t times = test["repeat"].whole(); times > 0; times--)
                text += messages.back().content;
            texts.push_back(std::move(text));
            messages.back().content = texts.back();
        }
        all.push_back(std::move(messages));
    }
    return all;
}

void run(const Json &group, const std::string &config, const std::string &root) {
    const std::string &bundle = group["guard"].text;
    const qwenguard::Options opened = {0, 0, config, {}};
    const qwenguard::Guard guard = bundle == "nano"       ? qwenguard::Guard::nano(opened)
                                   : bundle == "nano-gen" ? qwenguard::Guard::nano_gen(opened)
                                                          : qwenguard::Guard::open(root + "/" + bundle, opened);
    qwenguard::AnnotateOptions options;
    options.decoding = static_cast<qwenguard::Decoding>(
        number(group["decoding"].text, {"constrained", "label_only", "free"}));
    options.overflow = static_cast<qwenguard::TextOverflow>(
        number(group["overflow"].text, {"refuse", "head", "tail", "windows"}));
    const std::vector<Json> &tests = group["cases"].items;
    std::vector<std::string> texts;
    const std::vector<Messages> all = conversations(tests, texts);
    std::vector<Answer> alone, together;
    for (const Messages &messages : all)
        alone.push_back(attempt([&] { return guard.annotate(messages, options); }));
    compare(tests, alone, "alone");
    if (options.overflow != qwenguard::TextOverflow::Refuse)
        return;
    for (const qwenguard::Reply &reply : guard.annotate_all(all, options))
        together.push_back(attempt([&] { return reply.annotation(); }));
    compare(tests, together, "together");
    compare(tests, queued(guard, all, options), "queued");
}

} // namespace

int main(int count, char **arguments) {
    CHECK(count == 3);
    const Json vectors = read_vectors(arguments[1]);
    std::size_t cases = 0;
    for (const Json &group : vectors["groups"].items) {
        run(group, vectors["config"].text, arguments[2]);
        cases += group["cases"].items.size();
    }
    std::cout << cases << " cases\n";
    return 0;
}
