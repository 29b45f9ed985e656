"""How the kit's pages are served: by this machine alone, with its own fonts, and nothing asked of any other."""

import sys
from pathlib import Path

import gradio as gr

_FONTS = ("system-ui", "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")


def serve(blocks: gr.Blocks, browser: Path, what: str, port: int | None = None, share: bool = False) -> gr.Blocks:
    """Serve a page, with ``page.css`` and the scripts (in the order of their names) in ``browser``, on 127.0.0.1 (the first
    free port from 7860 on); ``share`` adds a public link through Gradio's servers. From a script this returns when the
    server is stopped, from a notebook at once, with the page below the cell (``close()`` ends it)."""
    scripts = "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in sorted(browser.glob("*.js")))
    blocks.launch(server_name="127.0.0.1", server_port=port, share=share, ssr_mode=False, run_history=False, height=900,
                  footer_links=[], theme=gr.themes.Default(font=_FONTS, font_mono=("monospace",)), quiet=True,
                  css_paths=browser / "page.css", head=scripts, prevent_thread_lock=True)
    where = f"{blocks.share_url} (for everyone who has this link" if blocks.share_url else \
        f"{blocks.local_url} (on this machine only"
    print(f"{what}: {where}; Ctrl+C or close() ends it)", flush=True)
    if not hasattr(sys, "ps1"):  # neither a notebook nor an interactive Python
        blocks.block_thread()
    return blocks
