// tests/vectors through the C++ classes, and so through the C ABI. The arguments are the folder of the project and the files.
#include <map>

#include "vectors.hpp"

namespace {

// With the guard behind, if the file names one by its place in the folder of the project.
std::string config(const Json &vectors, const std::string &project) {
    const std::string toml =
        vectors["config"].text + (provider().empty() ? "" : "\nruntime.provider = '" + provider() + "'");
    if (!vectors.has("second_opinion"))
        return toml;
    return toml + "\n[second_opinion]\nbundle = '" + project + "/" + vectors["second_opinion"].text +
           "'\ncache_mib = 64\n";
}

qwenguard::Guard open(const Json &vectors, const std::string &project) {
    const std::string toml = config(vectors, project);
    if (provider().empty())
        return qwenguard::Guard::nano({0, 0, toml, {}});
    return qwenguard::Guard::open(project + "/target/golden-gpu/nano", {0, 0, toml, {}});
}

class Runner {
public:
    Runner(const Json &vectors, const std::string &project)
        : guard_(open(vectors, project)),
          prompt_(guard_.categories(qwenguard::Heads::Prompt)), answer_(guard_.categories(qwenguard::Heads::Answer)) {
        categories("prompt", vectors["categories"]["prompt"], prompt_);
        categories("answer", vectors["categories"]["answer"], answer_);
    }

    void run(const Json &step) {
        const Json &expect = step["expect"];
        try {
            call(step["call"].text, step, expect);
        } catch (const qwenguard::Error &error) {
            return failure(expect, error.status(), error.message());
        }
        success(expect);
    }

    void clear() { streams_.clear(); }

private:
    using Names = std::vector<std::string_view>;

    void categories(const char *what, const Json &wanted, const Names &found) {
        same(what, Json{Json::Number, false, std::to_string(wanted.items.size()), {}, {}}, found.size());
        for (std::size_t index = 0; index < found.size(); index++)
            same(what, wanted.items[index], found[index]);
    }

    void call(const std::string &call, const Json &step, const Json &expect) {
        const std::size_t index = step.has("stream") ? step["stream"].whole() : 0;
        if (call == "open") {
            streams_.push_back(step.has("policy") ? guard_.stream(step["policy"].text) : guard_.stream());
        } else if (call == "encode") {
            encode(step["text"].text, expect);
        } else if (call == "call_all") {
            const Inputs inputs(step["calls"], streams_);
            replies(qwenguard::call_all(inputs.calls), step["calls"], expect["replies"]);
        } else if (call == "queue") {
            replies(queued(Inputs(step["calls"], streams_)), step["calls"], expect["replies"]);
        } else {
            CHECK(index < streams_.size());
            qwenguard::Stream &stream = streams_[index];
            if (call == "fork")
                streams_.push_back(stream.fork());
            else if (call == "context_used")
                same("tokens", expect["tokens"], stream.context_used());
            else if (call == "prompt")
                check(stream, stream.prompt(messages(step)), expect);
            else if (call == "next_turn")
                check(stream, stream.next_turn(messages(step)), expect);
            else if (call == "push_text")
                update(stream, stream.push_text(bytes(step)), expect);
            else if (call == "push_thinking")
                update(stream, stream.push_thinking(bytes(step)), expect);
            else if (call == "push_tokens")
                update(stream, stream.push_tokens(ids(step)), expect);
            else if (call == "finish")
                update(stream, stream.finish(), expect);
            else if (call == "truncate")
                update(stream, stream.truncate(step["bytes"].whole()), expect);
            else if (call == "truncate_tokens")
                update(stream, stream.truncate_tokens(step["tokens"].whole()), expect);
            else
                CHECK(!"a call that is known");
        }
    }

    /// Calls of many streams, and what they look at.
    struct Inputs {
        Inputs(const Json &steps, std::vector<qwenguard::Stream> &streams) {
            for (const Json &step : steps.items)
                texts.push_back(step.has("text") || step.has("hex") ? bytes(step) : std::string());
            for (const Json &step : steps.items)
                tokens.push_back(step.has("ids") ? ids(step) : std::vector<std::uint32_t>());
            for (std::size_t index = 0; index < steps.items.size(); index++) {
                const Json &step = steps.items[index];
                const std::string &call = step["call"].text;
                qwenguard::Stream &stream = streams.at(step["stream"].whole());
                if (call == "prompt")
                    calls.push_back(qwenguard::Call::prompt(stream, messages(step)));
                else if (call == "next_turn")
                    calls.push_back(qwenguard::Call::next_turn(stream, messages(step)));
                else if (call == "push_text")
                    calls.push_back(qwenguard::Call::push_text(stream, texts[index]));
                else if (call == "push_thinking")
                    calls.push_back(qwenguard::Call::push_thinking(stream, texts[index]));
                else if (call == "push_tokens")
                    calls.push_back(qwenguard::Call::push_tokens(stream, tokens[index]));
                else if (call == "finish")
                    calls.push_back(qwenguard::Call::finish(stream));
                else if (call == "truncate")
                    calls.push_back(qwenguard::Call::truncate(stream, step["bytes"].whole()));
                else if (call == "truncate_tokens")
                    calls.push_back(qwenguard::Call::truncate_tokens(stream, step["tokens"].whole()));
                else
                    CHECK(!"a call that is known");
            }
        }
        std::vector<std::string> texts;
        std::vector<std::vector<std::uint32_t>> tokens;
        std::vector<qwenguard::Call> calls;
    };

    static std::vector<qwenguard::Reply> queued(const Inputs &inputs) {
        const qwenguard::Queue queue = qwenguard::Queue::open();
        std::map<std::uint64_t, qwenguard::Reply> done;
        for (std::size_t tag = 0; tag < inputs.calls.size(); tag++)
            queue.submit(inputs.calls[tag], tag);
        while (queue.size() > 0)
            for (const qwenguard::Completion &completion : queue.wait(qwenguard::Queue::forever))
                done.emplace(completion.tag, completion.reply);
        std::vector<qwenguard::Reply> replies;
        for (const auto &[tag, reply] : done)
            replies.push_back(reply);
        return replies;
    }

    void replies(const std::vector<qwenguard::Reply> &found, const Json &steps, const Json &expect) {
        CHECK(found.size() == steps.items.size() && found.size() == expect.items.size());
        for (std::size_t index = 0; index < found.size(); index++) {
            const qwenguard::Reply &reply = found[index];
            const Json &wanted = expect.items[index];
            qwenguard::Stream &stream = streams_[steps.items[index]["stream"].whole()];
            if (reply.status() != qwenguard::Status::Ok) {
                failure(wanted, reply.status(), reply.message());
                continue;
            }
            success(wanted);
            if (wanted.has("tokens"))
                update(stream, reply.update(), wanted);
            else
                check(stream, reply.check(), wanted);
        }
    }

    static std::vector<std::uint32_t> ids(const Json &step) {
        std::vector<std::uint32_t> ids;
        for (const Json &id : step["ids"].items)
            ids.push_back(static_cast<std::uint32_t>(id.whole()));
        return ids;
    }

    static std::string bytes(const Json &step) {
        std::string piece, all;
        if (step.has("hex")) {
            const std::string &hex = step["hex"].text;
            for (std::size_t at = 0; at < hex.size(); at += 2)
                piece += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
        } else {
            piece = step["text"].text;
        }
        for (std::uint64_t count = step.has("repeat") ? step["repeat"].whole() : 1; count > 0; count--)
            all += piece;
        return all;
    }

    void encode(const std::string &text, const Json &expect) {
        const std::vector<qwenguard::TextToken> tokens = guard_.encode(text);
        CHECK(expect["ids"].items.size() == tokens.size());
        for (std::size_t index = 0; index < tokens.size(); index++) {
            same("id", expect["ids"].items[index], tokens[index].id);
            same("span", expect["spans"].items[index].items[0], tokens[index].bytes.start);
            same("span", expect["spans"].items[index].items[1], tokens[index].bytes.end);
        }
    }

    void verdict(const qwenguard::Verdict &found, const Json &expect, const Names &names) {
        same("risk", expect["risk"], qwenguard::name(found.risk()));
        if (expect.has("category") != found.category().has_value())
            differs("category", expect["category"].text, "there or not");
        if (found.category())
            same("category", expect["category"], names[*found.category()]);
        const Json &risks = expect["risk_probs"], &categories = expect["category_probs"];
        for (std::size_t level = 0; level < 3; level++)
            near("risk_probs", risks.items[level], found.probability(static_cast<qwenguard::Risk>(level)));
        CHECK(categories.items.size() == found.category_probabilities().size());
        for (std::size_t index = 0; index < categories.items.size(); index++)
            near("category_probs", categories.items[index], found.category_probabilities()[index]);
    }

    void check(const qwenguard::Stream &stream, const qwenguard::PromptCheck &found, const Json &expect) {
        same("decision", expect["decision"], name(found.decision));
        verdict(found.verdict, expect["verdict"], prompt_);
        if (expect.has("finding") != found.finding.has_value())
            differs("finding", "there or not", "the other");
        if (found.finding) {
            const Json &finding = expect["finding"];
            same("action", finding["action"], name(found.finding->action));
            same("risk", finding["risk"], qwenguard::name(found.finding->risk));
            same("category", finding["category"], prompt_[found.finding->category]);
            near("probability", finding["probability"], found.finding->probability);
            same("rule", finding["rule"], stream.rule());
        }
    }

    void violation(const qwenguard::Violation &found, const Json &expect, const std::string &rule) {
        same("action", expect["action"], name(found.action));
        same("channel", expect["channel"], name(found.channel));
        same("byte_start", expect["byte_start"], found.bytes.start);
        same("byte_end", expect["byte_end"], found.bytes.end);
        same("first_token", expect["first_token"], found.first_token);
        same("confirming_token", expect["confirming_token"], found.confirming_token);
        same("risk", expect["risk"], qwenguard::name(found.risk));
        same("category", expect["category"], answer_[found.category]);
        near("probability", expect["probability"], found.probability);
        same("rule", expect["rule"], rule);
    }

    void opinions(const qwenguard::Stream &stream, std::size_t count, const Json &update) {
        const std::vector<qwenguard::Opinion> found = stream.opinions();
        CHECK(found.size() == count && update.has("opinions") == (count > 0));
        for (std::size_t index = 0; index < found.size(); index++) {
            const Json &expect = update["opinions"].items[index];
            same("trigger", expect["trigger"], name(found[index].trigger));
            same("outcome", expect["outcome"], name(found[index].outcome));
            same("channel", expect["channel"], name(found[index].channel));
            same("byte_start", expect["byte_start"], found[index].bytes.start);
            same("byte_end", expect["byte_end"], found[index].bytes.end);
            same("first_token", expect["first_token"], found[index].first_token);
            same("confirming_token", expect["confirming_token"], found[index].confirming_token);
            try {
                CHECK(stream.opinion_annotation(index).risk() == found[index].risk);
            } catch (const qwenguard::Error &error) {
                CHECK(!found[index].risk);
                failure(expect, error.status(), error.message());
                continue;
            }
            same("risk", expect["risk"], qwenguard::name(*found[index].risk));
            for (std::size_t level = 0; level < 3; level++)
                near("risk_probs", expect["risk_probs"].items[level], found[index].risk_probabilities[level]);
        }
        CHECK(count == 0 || update["opinions"].items.size() == count);
    }

    void update(qwenguard::Stream &stream, const qwenguard::Update &found, const Json &expect) {
        same("decision", expect["decision"], name(found.decision));
        same("horizon", expect["horizon"], found.horizon);
        same("horizon_tokens", expect["horizon_tokens"], found.horizon_tokens);
        same("received", expect["received"], found.received);
        same("excess", expect["excess"], found.excess);
        same("final_tokens", expect["final_tokens"], found.final_tokens);
        same("void_from", expect["void_from"], found.void_from);
        if (expect.has("violation") != found.violation.has_value())
            differs("violation", "there or not", "the other");
        if (found.violation)
            violation(*found.violation, expect["violation"], stream.rule());

        const std::vector<qwenguard::Violation> flags = stream.flags();
        CHECK(flags.size() == found.flag_count && flags.size() == expect["flags"].items.size());
        for (std::size_t index = 0; index < flags.size(); index++)
            violation(flags[index], expect["flags"].items[index], stream.flag_rule(index));

        opinions(stream, found.opinion_count, expect);
        const qwenguard::Span<const qwenguard::TokenVerdict> tokens = stream.tokens();
        CHECK(tokens.size() == found.token_count && tokens.size() == expect["tokens"].items.size());
        for (std::size_t index = 0; index < tokens.size(); index++) {
            const Json &token = expect["tokens"].items[index];
            same("index", token["index"], tokens[index].index);
            same("id", token["id"], tokens[index].id);
            same("byte_start", token["byte_start"], tokens[index].bytes.start);
            same("byte_end", token["byte_end"], tokens[index].bytes.end);
            same("channel", token["channel"], name(tokens[index].channel));
            CHECK(token["final"].boolean == tokens[index].is_final);
            verdict(tokens[index].verdict, token["verdict"], answer_);
        }
    }

    qwenguard::Guard guard_;
    Names prompt_, answer_;
    std::vector<qwenguard::Stream> streams_;
};

} // namespace

int main(int count, char **arguments) {
    for (int file = 2; file < count; file++) {
        const Json vectors = read_vectors(arguments[file]);
        Runner runner(vectors, arguments[1]);
        std::size_t steps = 0;
        for (const Json &test : vectors["cases"].items) {
            for (const Json &step : test["steps"].items) {
                place = test["name"].text + ", step " + std::to_string(&step - test["steps"].items.data());
                runner.run(step);
                steps++;
            }
            runner.clear();
        }
        std::cout << vectors["cases"].items.size() << " cases, " << steps << " steps\n";
    }
    return 0;
}
