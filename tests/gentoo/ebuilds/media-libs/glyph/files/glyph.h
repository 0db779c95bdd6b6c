#ifndef GLYPH_H
#define GLYPH_H

/* How many pixels wide a letter is. */
int glyph_width(int letter);

/* How wide a text is, drawn where shaper places its letters. */
int glyph_draw(const char *text);

#endif
