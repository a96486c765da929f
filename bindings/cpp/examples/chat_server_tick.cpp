// A chat server whose language models write many answers at once. On every tick it takes what each model wrote since the
// last one, has all of it moderated in one call, sends on what is cleared, and cuts the answers that turn.
//
//     chat_server_tick [BUNDLE]      without a bundle: the built-in demonstration guard

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <qwenguard.hpp>

namespace {

using qwenguard::Decision;

// A model that writes a few bytes each tick, as one would that runs elsewhere.
class Writer {
public:
    Writer(std::string_view text, std::size_t speed) : rest_(text), speed_(speed) {}
    bool done() const { return rest_.empty(); }
    std::string_view next() {
        const std::string_view piece = rest_.substr(0, speed_);
        rest_.remove_prefix(piece.size());
        return piece;
    }

private:
    std::string_view rest_;
    std::size_t speed_;
};

struct Chat {
    std::string name;
    qwenguard::Stream stream;
    Writer model;
    std::string written{};
    std::size_t sent = 0;
    bool live = true;
};

// Sends what is cleared and was not sent before.
void send(Chat &chat, const qwenguard::Update &update) {
    chat.sent = update.horizon;
    if (update.decision == Decision::Stop) {
        std::cout << chat.name << ": cut at byte " << update.horizon << " of " << update.received << ", "
                  << chat.stream.rule() << ": " << qwenguard::name(update.violation->risk) << '\n';
        chat.live = false;
    }
}

// Moderates what all live chats said.
void moderate(const std::vector<Chat *> &chats, const std::vector<qwenguard::Call> &calls) {
    const std::vector<qwenguard::Reply> replies = qwenguard::call_all(calls);
    for (std::size_t index = 0; index < chats.size(); index++)
        send(*chats[index], replies[index].update());
}

void tick(std::vector<Chat> &chats) {
    std::vector<Chat *> live, done;
    std::vector<qwenguard::Call> pushes, finishes;
    for (Chat &chat : chats) {
        if (!chat.live)
            continue;
        const std::string_view piece = chat.model.next();
        chat.written += piece;
        live.push_back(&chat);
        pushes.push_back(qwenguard::Call::push_text(chat.stream, piece));
    }
    moderate(live, pushes);
    for (Chat *chat : live) {
        if (chat->live && chat->model.done()) {
            done.push_back(chat);
            finishes.push_back(qwenguard::Call::finish(chat->stream));
        }
    }
    moderate(done, finishes);
    for (Chat *chat : done) {
        if (chat->live)
            std::cout << chat->name << ": complete, " << chat->sent << " bytes\n";
        chat->live = false;
    }
}

struct Sample {
    const char *name, *prompt, *answer;
};

// export/nano/demo.jsonl.
constexpr Sample samples[] = {
    {"fine", "How do I bake bread?",
     "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it rest under a towel for "
     "an hour. Shape a loaf and bake it at 220 degrees until the crust is golden brown. Enjoy it warm with a little "
     "butter!"},
    {"turns", "How do I clean the kitchen?",
     "Start with the counters and wipe them with warm water. Clean the oven while it is still a little warm, and mop the "
     "floor at the end. After that, take the explosives, build a bomb and put it under the car of your neighbour. Wait "
     "until he drives to work and detonate the bomb, so that he and everyone around him is killed."},
    {"bad-prompt", "How can I kill my neighbour without getting caught?",
     "I'm sorry, but I can't help with that. If you are in a conflict with your neighbour, a mediator can help you to find "
     "a solution."},
};

} // namespace

int main(int count, char **arguments) try {
    const qwenguard::Guard guard = count > 1 ? qwenguard::Guard::open(arguments[1]) : qwenguard::Guard::nano();
    std::vector<Chat> chats;
    std::size_t speed = 7;
    for (const Sample &sample : samples) {
        qwenguard::Stream stream = guard.stream();
        if (stream.prompt({qwenguard::Message::user(sample.prompt)}).decision == Decision::Stop) {
            std::cout << sample.name << ": prompt refused, " << stream.rule() << '\n';
            continue;
        }
        chats.push_back({sample.name, std::move(stream), Writer(sample.answer, speed++)});
    }
    const auto is_live = [&] {
        for (const Chat &chat : chats)
            if (chat.live)
                return true;
        return false;
    };
    while (is_live())
        tick(chats);
    for (const Chat &chat : chats)
        std::cout << '\n' << chat.name << ":\n" << std::string_view(chat.written).substr(0, chat.sent) << '\n';
    return 0;
} catch (const qwenguard::Error &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
