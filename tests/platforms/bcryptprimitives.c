/* bcryptprimitives.dll with the one function that the standard library of Rust takes from it. Wine before 9 has no such
   DLL, Windows has. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
    while (size > 0) {
        ULONG piece = size < 1 << 20 ? (ULONG)size : 1 << 20;
        if (!RtlGenRandom(data, piece))
            return FALSE;
        data += piece;
        size -= piece;
    }
    return TRUE;
}
