#include <glyph.h>
#include <shaper.h>
#include <stdio.h>

#ifdef LOUD
#define GREETING "HELLO"
#else
#define GREETING "hello"
#endif

/* An answer in HTTP on standard output, which systemd has made the connection. */
int main(void)
{
	char body[128];
	int length = snprintf(body, sizeof body, "%s, %d pixels wide, glyph known: %s\n", GREETING, glyph_draw(GREETING),
			      shaper_knows_glyph() ? "yes" : "no");

#ifdef DEBUG
	fprintf(stderr, "hello: built for debugging\n");
#endif
	printf("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", length, body);
	return 0;
}
