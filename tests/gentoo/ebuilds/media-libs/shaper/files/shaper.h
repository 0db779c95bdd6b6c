#ifndef SHAPER_H
#define SHAPER_H

/* How wide a text is: as its letters are, or one a letter where glyph was left out. */
int shaper_place(const char *text);

/* Whether glyph was there when this was compiled. */
int shaper_knows_glyph(void);

#endif
