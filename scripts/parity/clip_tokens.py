#!/usr/bin/env python3
"""Token ids of both tokenizers against those of the reference programs, in a file of cases
{"cases": [{"text", "biomedclip_ids", "llama_ids_with_bos"}]}; texts longer than the context are no part of it.

    cargo build --release -p volseg-model --example clip
    python3 scripts/parity/clip_tokens.py target/release/examples/clip expected.json biomedclip/vocab.txt llama/tokenizer.model
"""
import json, subprocess, sys

program, expected, vocabulary, sentencepieces = sys.argv[1:]
cases = json.load(open(expected, encoding="utf-8"))["cases"]
wrong = 0
for file, key in ((vocabulary, "biomedclip_ids"), (sentencepieces, "llama_ids_with_bos")):
    texts = json.dumps([c["text"] for c in cases])
    ours = json.loads(subprocess.run([program, "tokens", file], input=texts, capture_output=True, text=True, check=True).stdout)
    differ = [(c["text"], c[key], o) for c, o in zip(cases, ours) if c[key] not in (o, [1] + o)]
    for text, theirs, mine in differ:
        print(f"{key}: {text!r}: expected {theirs}, found {mine}")
    wrong += len(differ)
    print(f"{key}: {len(cases) - len(differ)} of {len(cases)} texts have the same ids, {sum(len(c[key]) for c in cases)} ids in all")
sys.exit(wrong > 0)
