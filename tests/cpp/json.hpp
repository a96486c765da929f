// As much of a JSON reader as the vectors need: it believes that they are well-formed.
#ifndef JSON_HPP
#define JSON_HPP

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"

struct Json {
    enum Kind { Null, Boolean, Number, Text, Array, Object } kind = Null;
    bool boolean = false;
    // The digits: whole numbers are compared exactly, those with a point are probabilities.
    std::string text;
    std::vector<Json> items;
    std::map<std::string, Json> fields;

    bool has(const std::string &name) const { return fields.count(name) != 0 && fields.at(name).kind != Null; }
    const Json &operator[](const std::string &name) const {
        CHECK(fields.count(name) != 0);
        return fields.at(name);
    }
    std::uint64_t whole() const { return std::strtoull(text.c_str(), nullptr, 10); }
    double real() const { return std::strtod(text.c_str(), nullptr); }
};

class JsonReader {
public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    Json read() {
        Json value;
        switch (peek()) {
        case 'n': at_ += 4; break;
        case 't': at_ += 4, value.kind = Json::Boolean, value.boolean = true; break;
        case 'f': at_ += 5, value.kind = Json::Boolean; break;
        case '"': value.kind = Json::Text, value.text = string(); break;
        case '[':
            value.kind = Json::Array;
            list(']', [&] { value.items.push_back(read()); });
            break;
        case '{':
            value.kind = Json::Object;
            list('}', [&] {
                std::string name = string();
                CHECK(peek() == ':');
                at_++;
                value.fields[name] = read();
            });
            break;
        default:
            value.kind = Json::Number;
            while (at_ < text_.size() && std::string_view("+-.eE0123456789").find(text_[at_]) != std::string_view::npos)
                value.text += text_[at_++];
            CHECK(!value.text.empty());
        }
        return value;
    }

private:
    char peek() {
        while (at_ < text_.size() && std::string_view(" \n\t\r").find(text_[at_]) != std::string_view::npos)
            at_++;
        CHECK(at_ < text_.size());
        return text_[at_];
    }
    template <class Item> void list(char end, Item item) {
        at_++;
        if (peek() == end) {
            at_++;
            return;
        }
        for (;;) {
            peek();
            item();
            const char next = peek();
            at_++;
            if (next == end)
                return;
            CHECK(next == ',');
        }
    }
    std::string string() {
        std::string value;
        CHECK(peek() == '"');
        for (at_++; text_[at_] != '"'; at_++) {
            if (text_[at_] != '\\') {
                value += text_[at_];
                continue;
            }
            at_++;
            switch (text_[at_]) {
            case 'n': value += '\n'; break;
            case 't': value += '\t'; break;
            case 'r': value += '\r'; break;
            case 'u': CHECK(!"escaped characters are not in the vectors"); break;
            default: value += text_[at_];
            }
        }
        at_++;
        return value;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

#endif
