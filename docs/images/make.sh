#!/usr/bin/env bash
# The dashboard's screens as text and PNG, drawn by the real program in tmux from a store.
# Usage: docs/images/make.sh STORE SWEEP   (the executable: $ALPHARHO, else target/release/alpharho)
# Needs tmux. For PNG also Chromium, the font JetBrains Mono, and xterm.js, which draws what tmux has on its screen:
#   apt-get install tmux chromium fonts-jetbrains-mono
#   npm install --prefix ~/.cache/terminal-png @xterm/xterm@5.5.0 @xterm/addon-canvas@0.7.0
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,7p' "$0"; exit 2; }
store=$(realpath "$1") sweep=$2 out=$(cd "$(dirname "$0")" && pwd)
alpharho=$(realpath "${ALPHARHO:-target/release/alpharho}")
modules=${XTERM_MODULES:-$HOME/.cache/terminal-png/node_modules}
work=$(mktemp -d)
trap 'tmux -S "$work/tmux" kill-server 2>/dev/null || true; rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8

# Name, columns, rows, keys.
shoot() {
  local name=$1 columns=$2 rows=$3; shift 3
  tmux -S "$work/tmux" -f /dev/null new-session -d -x "$columns" -y "$rows" \
    "env TERM=tmux-256color COLORTERM=truecolor $alpharho watch $sweep --store $store"
  sleep 2
  for key in "$@"; do tmux -S "$work/tmux" send-keys "$key"; sleep 0.3; done
  sleep 0.5
  tmux -S "$work/tmux" capture-pane -p | sed 's/ *$//' >"$out/watch-$name.txt"
  tmux -S "$work/tmux" capture-pane -N -p -e >"$work/screen"
  tmux -S "$work/tmux" send-keys q
  sleep 0.5
  tmux -S "$work/tmux" kill-server 2>/dev/null || true
  [ -d "$modules/@xterm/xterm" ] || { echo "no xterm.js in $modules: text only (see the head of this script)" >&2; return; }
  python3 - "$columns" "$rows" "$work/screen" "$modules" >"$work/page.html" <<'PY'
import base64, sys
columns, rows, screen, modules = sys.argv[1:]
text = base64.b64encode(open(screen, "rb").read().rstrip(b"\n").replace(b"\n", b"\r\n")).decode()
print(f"""<!doctype html><meta charset=utf-8><link rel=stylesheet href="{modules}/@xterm/xterm/css/xterm.css">
<style>body{{margin:6px;background:#111}}</style><div id=t></div>
<script src="{modules}/@xterm/xterm/lib/xterm.js"></script>
<script src="{modules}/@xterm/addon-canvas/lib/addon-canvas.js"></script>
<script>
const t = new Terminal({{cols: {columns}, rows: {rows}, fontFamily: '"JetBrains Mono",monospace', fontSize: 16,
  allowProposedApi: true, customGlyphs: true, cursorInactiveStyle: 'none',
  theme: {{background: '#111111', foreground: '#dddddd'}}}});
t.open(document.getElementById('t')); t.loadAddon(new CanvasAddon.CanvasAddon());
t.write(Uint8Array.from(atob('{text}'), c => c.charCodeAt(0))); t.write('\\x1b[?25l');
</script>""")
PY
  timeout 60 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
    --user-data-dir="$work/profile" --virtual-time-budget=3000 --window-size=$((columns * 9 + 12)),$((rows * 21 + 12)) \
    --screenshot="$out/watch-$name.png" "file://$work/page.html" >/dev/null 2>&1
  echo "$out/watch-$name.png"
}

shoot tradeoff 120 34 Left
shoot grid 120 34 2 Down Right Right Right
shoot trial 120 34 2 Enter
shoot workers 120 16 4
shoot events 120 34 5
shoot small 80 24 g
