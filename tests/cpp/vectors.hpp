// What the programs that run tests/vectors share: what differs ends them.
#ifndef VECTORS_HPP
#define VECTORS_HPP

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include <qwenguard.hpp>

#include "json.hpp"

// Where in the file it is.
inline std::string place;

[[noreturn]] inline void differs(const std::string &what, const std::string &wanted, const std::string &found) {
    std::cerr << place << ": " << what << " is " << found << ", not " << wanted << '\n';
    std::exit(1);
}

inline void same(const char *what, const Json &wanted, std::uint64_t found) {
    if (wanted.kind != Json::Number || wanted.whole() != found)
        differs(what, wanted.text, std::to_string(found));
}

inline void same(const char *what, const Json &wanted, std::string_view found) {
    if (wanted.kind != Json::Text || wanted.text != found)
        differs(what, wanted.text, std::string(found));
}

// The provider to run on instead of the CPU, or nothing: see tests/vectors/README.md.
inline std::string provider() {
    const char *name = std::getenv("QWENGUARD_TEST_PROVIDER");
    return name != nullptr ? name : "";
}

inline void near(const char *what, const Json &wanted, float found) {
    if (wanted.kind != Json::Number || !(std::fabs(wanted.real() - found) <= (provider().empty() ? 1e-3 : 2e-2)))
        differs(what, wanted.text, std::to_string(found));
}

inline std::string_view name(qwenguard::Decision decision) {
    return decision == qwenguard::Decision::Stop ? "stop" : "continue";
}

inline std::string_view name(qwenguard::Action action) {
    return action == qwenguard::Action::Stop ? "stop" : "flag";
}

inline std::string_view name(qwenguard::Channel channel) {
    return channel == qwenguard::Channel::Thinking ? "thinking" : "answer";
}

inline std::string_view name(qwenguard::OpinionTrigger trigger) {
    return trigger == qwenguard::OpinionTrigger::Violation ? "violation" : "uncertain";
}

inline std::string_view name(qwenguard::OpinionOutcome outcome) {
    static const std::string_view names[] = {"confirmed", "lifted", "cleared", "reported", "failed"};
    return names[static_cast<std::size_t>(outcome)];
}

// A call of which a success was wanted, or this failure.
inline void success(const Json &expect) {
    if (expect.has("error"))
        differs("the outcome", expect["error"]["message"].text, "a success");
}

inline void failure(const Json &expect, qwenguard::Status status, std::string_view message) {
    if (!expect.has("error"))
        differs("the outcome", "a success", std::string(message));
    same("status", expect["error"]["status"], qwenguard::name(status));
    same("message", expect["error"]["message"], message);
}

inline std::vector<qwenguard::Message> messages(const Json &step) {
    std::vector<qwenguard::Message> all;
    for (const Json &message : step["messages"].items)
        all.push_back({message["role"].text, message["content"].text});
    return all;
}

// A file of the format that is known.
inline Json read_vectors(const char *file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    const std::string document = text.str();
    const Json vectors = JsonReader(document).read();
    CHECK(vectors["format"].whole() == 1);
    return vectors;
}

#endif
