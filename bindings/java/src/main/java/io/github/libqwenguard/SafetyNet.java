package io.github.libqwenguard;

import java.lang.ref.PhantomReference;
import java.lang.ref.Reference;
import java.lang.ref.ReferenceQueue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Closes what was forgotten: with each call of the library, what the garbage collector has found unreachable until then. So it
 * needs no thread, which would keep the class loader alive.
 */
final class SafetyNet {
    private static final ReferenceQueue<Object> UNREACHABLE = new ReferenceQueue<>();
    private static final Set<Entry> ENTRIES = ConcurrentHashMap.newKeySet();

    static final class Entry extends PhantomReference<Object> {
        private final Handle handle;

        private Entry(Object owner, Handle handle) {
            super(owner, UNREACHABLE);
            this.handle = handle;
        }
    }

    static Entry add(Object owner, Handle handle) {
        Entry entry = new Entry(owner, handle);
        ENTRIES.add(entry);
        return entry;
    }

    static void remove(Entry entry) {
        entry.clear();
        ENTRIES.remove(entry);
    }

    /** Costs next to nothing where nothing was found. */
    static void sweep() {
        for (Reference<?> found = UNREACHABLE.poll(); found != null; found = UNREACHABLE.poll()) {
            ((Entry) found).handle.close();
        }
    }

    private SafetyNet() {}
}
