package io.github.libqwenguard;

/** Why a call failed, its status first, such as "BUSY: ...". The object that was called is as it was before. */
public final class QwenguardException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final int statusNumber;

    QwenguardException(int statusNumber, String message) {
        super(name(statusNumber) + ": " + message);
        this.statusNumber = statusNumber;
    }

    QwenguardException(Status status, String message) {
        this(status.number(), message);
    }

    private static String name(int statusNumber) {
        Status status = Status.of(statusNumber);
        return status == Status.UNKNOWN ? "status " + statusNumber : status.name();
    }

    /** {@link Status#UNKNOWN} if a later library has a status that this version does not know. */
    public Status status() {
        return Status.of(statusNumber);
    }

    /** The number of the status, also of one that this version does not know. */
    public int statusNumber() {
        return statusNumber;
    }
}
