"""The only door to NVIDIA's driver library: `pynvml` is called in this folder and nowhere else.

`calls` turns the library's error codes into four answers, `readings` is the table of what a card can be asked, `driver`
opens, closes, finds cards and waits for their errors.
"""
