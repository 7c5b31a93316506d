"""The side of the comparison that runs in mcp-memory-service's own environment: nothing of ours is imported here.

Reads one JSON object: {"database", "memories": [[content, [session, …]], …], "queries", "limit", "timed_limit"}; writes one:
for each query and each of its two searches (`retrieve`: vectors; `retrieve_hybrid`: its default) the sessions best first, and ms.
"""

import asyncio
import json
import sys
import time

from mcp_memory_service.models.memory import Memory
from mcp_memory_service.storage.sqlite_vec import SqliteVecMemoryStorage
from mcp_memory_service.utils.hashing import generate_content_hash

BATCH = 64


async def compared(asked: dict) -> dict:
    storage = SqliteVecMemoryStorage(asked["database"])
    await storage.initialize()
    began = time.perf_counter()
    memories = [
        Memory(
            content=content, content_hash=generate_content_hash(content), tags=sessions, memory_type="note"
        )
        for content, sessions in asked["memories"]
    ]
    stored = 0
    for at in range(0, len(memories), BATCH):
        done = await storage.store_batch(memories[at : at + BATCH])
        stored += sum(ok for ok, _ in done)
        print(f"mcp-memory-service: {stored} of {len(memories)} stored", file=sys.stderr)
    out = {"stored": stored, "seconds": time.perf_counter() - began, "searches": {}}
    for name in ("retrieve", "retrieve_hybrid"):
        search = getattr(storage, name)
        await search("warm up", asked["limit"])
        found, taken = [], []
        for query in asked["queries"]:
            before = time.perf_counter()
            await search(query, asked["timed_limit"])
            taken.append((time.perf_counter() - before) * 1e3)
            results = await search(query, asked["limit"])
            found.append([[result.memory.tags, result.relevance_score] for result in results])
        out["searches"][name] = {"found": found, "ms": taken}
    await storage.close()
    return out


if __name__ == "__main__":
    answer = asyncio.run(compared(json.load(sys.stdin)))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
