#include "shaper.h"

#ifdef HAVE_GLYPH
#include <glyph.h>
#endif

int shaper_place(const char *text)
{
	int width = 0;

	for (; *text; text++)
#ifdef HAVE_GLYPH
		width += glyph_width(*text);
#else
		width += 1;
#endif
	return width;
}

int shaper_knows_glyph(void)
{
#ifdef HAVE_GLYPH
	return 1;
#else
	return 0;
#endif
}
