"""OpenAI-shaped routes besides text generation: moderations, images, speech, transcriptions, batches; and those read unread.

Bodies that hold media are read for what they say in words: the model, the prompt, how many are asked for. Media themselves
are not looked into. A batch refers to a file that was inspected line by line when it was uploaded (`entries.upload`).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.facts import Call, Message
from gateway.plugins.protocols.reading import Document, model_name, scalars, typed
from gateway.protocol import Route, Takes, Unreadable

PARAMETERS: Final = (
    "n", "size", "quality", "style", "response_format", "background", "voice", "speed", "language", "temperature", "stream",
)  # fmt: skip
WORDS: Final = ("prompt", "instructions", "input")
BATCH: Final = ("input_file_id", "endpoint", "completion_window")


def _worded(document: Document, operation: str) -> Call:
    """A call of what stands in it in words. A form tells everything as text."""
    texts = [text for key in WORDS if (text := typed(document, key, str, "text"))]
    user = document.get("user")
    return Call(
        operation, model_name(document), document.get("stream") in (True, "true"), scalars(document, PARAMETERS),
        messages=(Message("user", "\n".join(texts)),) if texts else (),
        end_user=str(user) if isinstance(user, (str, int)) and user else None,
    )  # fmt: skip


def read_image(document: Document) -> Call:
    """The body of /v1/images/generations, edits and variations."""
    return _worded(document, "image")


def read_speech(document: Document) -> Call:
    """The body of /v1/audio/speech."""
    if document.get("input") is None:
        raise Unreadable("'input' is missing")
    return _worded(document, "speech")


def read_transcription(document: Document) -> Call:
    """The body of /v1/audio/transcriptions and translations."""
    return _worded(document, "transcription")


def read_moderation(document: Document) -> Call:
    """The body of /v1/moderations: text, texts, or parts with text and images."""
    given = document.get("input")
    if given is None:
        raise Unreadable("'input' is missing")
    if not isinstance(given, (str, list)):
        raise Unreadable("'input' must be text or a list")
    messages = tuple(map(_judged, [given] if isinstance(given, str) else given))
    return Call("moderation", model_name(document), messages=messages)


def _judged(item: Any) -> Message:
    if isinstance(item, str):
        return Message("user", item)
    if not isinstance(item, dict):
        raise Unreadable("'input' must be texts or parts")
    text = item.get("text")
    return Message("user", text if isinstance(text, str) else "", frozenset({"text" if isinstance(text, str) else "image"}))


def read_batch(document: Document) -> Call:
    """The body of /v1/batches."""
    if typed(document, "input_file_id", str, "text") is None:
        raise Unreadable("'input_file_id' is missing")
    return Call("batch", parameters=scalars(document, BATCH))


MEDIA: Final = (
    Route("moderations", "POST", "/v1/moderations", read_moderation),
    Route("images.generations", "POST", "/v1/images/generations", read_image),
    Route("images.edits", "POST", "/v1/images/edits", read_image, takes=Takes.FORM),
    Route("images.variations", "POST", "/v1/images/variations", read_image, takes=Takes.FORM),
    Route("audio.speech", "POST", "/v1/audio/speech", read_speech),
    Route("audio.transcriptions", "POST", "/v1/audio/transcriptions", read_transcription, takes=Takes.FORM),
    Route("audio.translations", "POST", "/v1/audio/translations", read_transcription, takes=Takes.FORM),
    Route("batches", "POST", "/v1/batches", read_batch),
)
UNREAD: Final = (
    ("models", "GET", "/v1/models"), ("model", "GET", "/v1/models/*"), ("model", "DELETE", "/v1/models/*"),
    ("chat.stored", "GET", "/v1/chat/completions"), ("chat.stored", "GET", "/v1/chat/completions/*"),
    ("chat.stored", "DELETE", "/v1/chat/completions/*"), ("chat.messages", "GET", "/v1/chat/completions/*/messages"),
    ("response", "GET", "/v1/responses/*"), ("response", "DELETE", "/v1/responses/*"),
    ("response.cancel", "POST", "/v1/responses/*/cancel"), ("response.items", "GET", "/v1/responses/*/input_items"),
    ("conversation", "GET", "/v1/conversations/*"), ("conversation", "DELETE", "/v1/conversations/*"),
    ("conversation.items", "GET", "/v1/conversations/*/items"), ("conversation.item", "GET", "/v1/conversations/*/items/*"),
    ("conversation.item", "DELETE", "/v1/conversations/*/items/*"),
    ("files", "GET", "/v1/files"), ("file", "GET", "/v1/files/*"), ("file", "DELETE", "/v1/files/*"),
    ("file.content", "GET", "/v1/files/*/content"),
    ("batches", "GET", "/v1/batches"), ("batch", "GET", "/v1/batches/*"), ("batch.cancel", "POST", "/v1/batches/*/cancel"),
)  # fmt: skip
