package io.github.libqwenguard;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

/** The functions of the library as method handles. */
final class FfmLibrary {
    private static final SymbolLookup LIBRARY =
            LibraryFinder.ofProcess().load("qwenguard", library -> SymbolLookup.libraryLookup(library, Arena.global()));

    static MethodHandle find(String name, MemoryLayout result, MemoryLayout... arguments) {
        FunctionDescriptor type =
                result == null ? FunctionDescriptor.ofVoid(arguments) : FunctionDescriptor.of(result, arguments);
        MemorySegment function =
                LIBRARY.find(name).orElseThrow(() -> new UnsatisfiedLinkError("libqwenguard has no " + name));
        return Linker.nativeLinker().downcallHandle(function, type);
    }

    /** Functions of C throw nothing; only a failure of the virtual machine gets here. */
    static RuntimeException unexpected(Throwable failure) {
        if (failure instanceof Error error) {
            throw error;
        }
        return new IllegalStateException(failure);
    }

    private FfmLibrary() {}
}
