package io.github.libqwenguard;

import static io.github.libqwenguard.Fixtures.fails;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Text arrives as it is: in UTF-8, and not in that of the virtual machine. */
class TextTest {
    private static final String TEXT = "Grüße, \0 and 👩‍🍳 𝒳 \uFFFF.";

    private static Guard guard;

    @BeforeAll
    static void open() {
        guard = Guard.nano(Fixtures.small());
    }

    @AfterAll
    static void close() {
        guard.close();
    }

    @Test
    void tokensStandForTheBytes() {
        byte[] bytes = TEXT.getBytes(StandardCharsets.UTF_8);
        ByteArrayOutputStream rebuilt = new ByteArrayOutputStream();
        long end = 0;
        for (TextToken token : guard.encode(TEXT)) {
            rebuilt.writeBytes(guard.tokenBytes(token.id()));
            assertEquals(end, token.bytes().start());
            end = token.bytes().end();
        }
        assertArrayEquals(bytes, rebuilt.toByteArray());
        assertEquals(bytes.length, end);
        assertTrue(guard.encode("").isEmpty());
        try (GuardStream stream = Fixtures.prompted(guard)) {
            List<TextToken> tokens = guard.encode(" bread");
            assertEquals(6, stream.pushTokens(tokens).received());
            Reply again = GuardStream.callAll(List.of(Call.pushTokens(stream, tokens))).get(0);
            assertEquals(12, again.update().received());
        }
    }

    @Test
    void moreTokensThanBytes() {
        String text = "\u0958 is longer when it is normalised. ".repeat(40);
        assertTrue(guard.encode(text).size() > 200);
    }

    @Test
    void piecesAndTheWholeAreTheSame() {
        byte[] bytes = TEXT.getBytes(StandardCharsets.UTF_8);
        try (GuardStream whole = Fixtures.prompted(guard);
                GuardStream pieces = Fixtures.prompted(guard)) {
            assertEquals(bytes.length, whole.pushText(TEXT).received());
            for (byte part : bytes) {
                pieces.pushText(new byte[] {part});
            }
            Update last = whole.finish();
            assertEquals(last.toString(), pieces.finish().toString());
            assertEquals(bytes.length, last.received());
            assertEquals(whole.contextUsed(), pieces.contextUsed());
        }
    }

    @Test
    void messagesKeepTheirText() {
        Message message = Message.of("user", TEXT);
        assertEquals(TEXT, message.content());
        try (GuardStream one = guard.stream();
                GuardStream other = guard.stream()) {
            one.prompt(message);
            other.prompt(Message.user(TEXT.replace("\0", "")));
            assertEquals(other.contextUsed() + guard.encode("\0").size(), one.contextUsed(), 2);
            assertTrue(one.contextUsed() > other.contextUsed());
        }
    }

    @Test
    void halfCharacters() {
        try (GuardStream stream = Fixtures.prompted(guard)) {
            String half = "👩".substring(0, 1);
            IllegalArgumentException failure =
                    assertThrows(IllegalArgumentException.class, () -> stream.pushText("Hi " + half));
            assertEquals("text: half a surrogate pair at index 3; cut text as bytes instead", failure.getMessage());
            assertThrows(IllegalArgumentException.class, () -> stream.pushText("👩".substring(1)));
            assertThrows(IllegalArgumentException.class, () -> Message.user(half));
            assertThrows(IllegalArgumentException.class, () -> guard.stream(half));
            stream.pushText(Arrays.copyOf("👩".getBytes(StandardCharsets.UTF_8), 2));
            fails(Status.ARGUMENT, "byte", stream::finish);
            fails(Status.ARGUMENT, "UTF-8 at byte 0", () -> stream.pushText("x"));
        }
    }

    @Test
    void longTexts() {
        try (GuardStream stream = Fixtures.prompted(guard)) {
            fails(Status.ARGUMENT, "1048576", () -> stream.pushText(new byte[(1 << 20) + 1]));
            fails(Status.CONTEXT_FULL, "2048", () -> stream.pushText("word ".repeat(20_000)));
            Update update = stream.pushText(Fixtures.LONG);
            assertEquals(Fixtures.LONG.length(), update.received());
            assertTrue(update.tokenCount() > 1000);
            assertEquals(update.tokenCount(), stream.tokens().size());
        }
    }
}
