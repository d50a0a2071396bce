"""A short scripted conversation: what is said in a call, and the tool that the assistant calls."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Sends a message of Vapi to the client."""

CallTool = Callable[[], Awaitable[tuple[Mapping[str, Any], Mapping[str, Any]]]]
"""Calls the tool; gives the tool call, and its result with `result` or `error`."""

PACE_SECONDS: Final = 1.0
"""How long each utterance takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an assistant and a patient say to each other; `{results}` is what the tool found."""

    name: str
    greeting: str
    question: str
    answer: str
    no_answer: str
    thanks: str
    farewell: str


ENGLISH: Final = Script(
    name="Nurse",
    greeting="Hello, this is your clinic's assistant. How can I help you?",
    question="Could you tell me my latest lab results?",
    answer="Your latest result is: {results}.",
    no_answer="I am sorry, I could not look that up.",
    thanks="Thank you. That is all.",
    farewell="You are welcome. Goodbye.",
)
GERMAN: Final = Script(
    name="Pflegekraft",
    greeting="Guten Tag, hier ist der Assistent Ihrer Klinik. Wie kann ich Ihnen helfen?",
    question="Können Sie mir meine letzten Laborwerte sagen?",
    answer="Ihr letzter Wert ist: {results}.",
    no_answer="Es tut mir leid, das konnte ich nicht nachsehen.",
    thanks="Danke, das ist alles.",
    farewell="Gern geschehen. Auf Wiederhören.",
)


async def converse(script: Script, send: Send, call_tool: CallTool, pace: float) -> None:
    """Send the messages of the whole conversation, as Vapi sends them to its clients."""
    await speak(send, "assistant", script.greeting, pace)
    await speak(send, "user", script.question, pace)
    tool_call, result = await call_tool()
    await send({"type": "tool-calls", "toolCallList": [tool_call]})
    await send({"type": "tool-calls-result", "toolCallResult": result})
    await speak(send, "assistant", _answer(script, result), pace)
    await speak(send, "user", script.thanks, pace)
    await speak(send, "assistant", script.farewell, pace)


async def speak(send: Send, role: str, text: str, pace: float) -> None:
    """Send one utterance: its start, half of its transcript, all of it, and its end."""
    words = text.split()
    half = " ".join(words[: len(words) // 2])
    await send({"type": "speech-update", "role": role, "status": "started"})
    await asyncio.sleep(pace / 2)
    await send(_transcript(role, "partial", half))
    await asyncio.sleep(pace / 2)
    await send(_transcript(role, "final", text))
    await send({"type": "speech-update", "role": role, "status": "stopped"})


def _transcript(role: str, kind: str, text: str) -> dict[str, str]:
    return {"type": "transcript", "role": role, "transcriptType": kind, "transcript": text}


def _answer(script: Script, result: Mapping[str, Any]) -> str:
    try:
        return script.answer.format(results=json.loads(result["result"])["results"])
    except (KeyError, TypeError, ValueError):
        return script.no_answer
